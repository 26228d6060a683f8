"""Kinds of files that are known and cannot be restored: each is refused by its name, with what to do."""

from __future__ import annotations

from ckpt.errors import RestoreError
from ckpt.kernel import uapi_files
from ckpt.records.base import Record
from ckpt.records.file_kinds import NoPayload
from ckpt.records.files import FileRecord
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files.base import FileView

SUPPORT = Support(
    "files",
    "other kinds",
    "",
    refused="io_uring, userfaultfd, perf, fanotify, BPF programs and links, seccomp listeners, Landlock, KVM, "
    "secret memory, DMA buffers (let the task close them)",
)

_STOP = "let the task close it before the dump"
_NAMES = {
    "[io_uring]": ("an io_uring", "start the program without io_uring, or let it close its rings first"),
    "[userfaultfd]": ("a userfaultfd", _STOP),
    "[perf_event]": ("a perf event", "stop the profiler first"),
    "bpf-prog": ("a BPF program", _STOP),
    "bpf_link": ("a BPF link", _STOP),
    "btf": ("a BTF object", _STOP),
    "seccomp notify": ("a seccomp listener", "stop the supervisor first"),
    "[landlock-ruleset]": ("a Landlock ruleset", _STOP),
    "kvm-vm": ("a virtual machine of KVM", "use the virtual machine's own snapshots"),
    "kvm-vcpu": ("a virtual CPU of KVM", "use the virtual machine's own snapshots"),
    "[kvm-gmem]": ("guest memory of KVM", "use the virtual machine's own snapshots"),
}
_PATHS = {"/secretmem": "secret memory (memfd_secret), which ckpt may not read", "/dmabuf:": "a DMA buffer"}


class RefusedFiles:
    """Anonymous inodes that no other kind knows, and files whose memory belongs to a device."""

    kind = "refused"

    def recognises(self, view: FileView) -> bool:
        return view.link.startswith((uapi_files.ANON_INODE, *_PATHS))

    def collect(self, view: FileView, context: CollectContext) -> Record:
        name = view.link.removeprefix(uapi_files.ANON_INODE)
        for prefix, what in _PATHS.items():
            if name.startswith(prefix):
                context.refuse(view.pid, view.subject, f"is {what}, and cannot be restored", _STOP)
                return NoPayload()
        what, hint = _NAMES.get(name, (f"of the kind {name.strip('[]')}", _STOP))
        context.refuse(view.pid, view.subject, f"is {what}, which cannot be restored", hint)
        return NoPayload()

    def restore(self, file: FileRecord, context: RestoreContext) -> int:
        raise RestoreError("the image holds a file of a kind that cannot be restored")


KIND = RefusedFiles()
