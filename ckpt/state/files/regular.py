"""Files with a name: regular files, directories, symbolic links and device nodes held with O_PATH.

What counts as changed since the dump (FileChanged): the file is gone or of another type; a mapped file whose
size or time differs; a file open for reading and writing whose size differs; any other file that is shorter
than the description's position. Logs and files opened for writing alone may have grown; inode and device
numbers may differ, since the restore may be on another host.
"""

from __future__ import annotations

import os
import stat
from dataclasses import replace

from ckpt.errors import FileChanged
from ckpt.kernel import uapi_files
from ckpt.records.base import Record
from ckpt.records.file_kinds import NoPayload, PathFile
from ckpt.records.files import FileRecord
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files import names, paths
from ckpt.state.files.base import FileView

SUPPORT = Support(
    "files",
    "files with a name",
    "position, flags, O_PATH, directories, owner and signal (F_SETOWN, F_SETSIG), write hints",
    lost="directory notification (F_NOTIFY), which the kernel shows nowhere; that a file without a name may not get "
    "one (O_TMPFILE with O_EXCL); that a descriptor stands for a mount which is attached nowhere (open_tree)",
)

_HINT = "put the file back as it was at the dump"


class RegularFiles:
    """Whatever is opened again by its path."""

    kind = "regular"

    def recognises(self, view: FileView) -> bool:
        mode = view.stat.st_mode
        named = stat.S_ISREG(mode) or stat.S_ISDIR(mode) or bool(view.flags & uapi_files.O_PATH)
        return named and view.link.startswith("/")

    def collect(self, view: FileView, context: CollectContext) -> Record:
        payload = path_payload(view, view.link)
        if paths.reachable(view.link, view.stat):
            if view.flags & os.O_ACCMODE and not view.flags & uapi_files.O_PATH:
                _refuse_settled(view, context)
            return payload
        handle = names.handle_of(view)
        if handle is None:
            context.refuse(
                view.pid,
                view.subject,
                "cannot be reached by its path (hidden by a mount, or in another mount namespace)",
                "run ckpt as root in the task's mount namespace, or unmount what hides the file",
            )
            return NoPayload()
        return replace(payload, handle=handle)

    def restore(self, file: FileRecord, context: RestoreContext) -> int:
        payload: PathFile = file.payload
        if file.flags & uapi_files.O_PATH and stat.S_ISSOCK(payload.mode):
            return _when_bound(file, context)
        fd = open_payload(payload, file.flags)
        try:
            if not context.options.get("allow_changed_files"):
                check(payload, file, os.fstat(fd))
        except FileChanged:
            os.close(fd)
            raise
        return fd


def _refuse_settled(view: FileView, context: CollectContext) -> None:
    """A file that is open for writing, or mapped for it, and could not be opened so again."""
    if paths.immutable(view.link):
        reason = "is immutable by now (chattr +i), and open for writing"
        context.refuse(view.pid, view.subject, reason, "take the attribute away (chattr -i)")
    elif not view.flags & os.O_APPEND and paths.append_only(view.link):
        reason = "may only be appended to by now (chattr +a), and is open for writing anywhere"
        context.refuse(view.pid, view.subject, reason, "take the attribute away (chattr -a)")


def open_payload(payload: PathFile, flags: int) -> int:
    """By the path, or by the handle."""
    if payload.handle is not None:
        return names.open_handle(payload.handle, payload.path, flags)
    return paths.open_path(payload.path, flags)


def _when_bound(file: FileRecord, context: RestoreContext) -> int:
    """A socket in the tree gets its file again when it is bound, last of all sockets: open that in place of this."""
    fd = os.open("/", uapi_files.O_PATH | os.O_CLOEXEC)

    def place() -> None:
        found = open_payload(file.payload, file.flags)
        os.dup2(found, fd, inheritable=False)
        os.close(found)

    context.when_opened(lambda: context.when_opened(place))
    return fd


def path_payload(view: FileView, path: str) -> PathFile:
    """The record of a file at a path."""
    st = view.stat
    size = st.st_size if stat.S_ISREG(st.st_mode) else 0
    virtual = path.startswith(("/proc/", "/sys/")) or path in ("/proc", "/sys")
    return PathFile(path, st.st_mode, size, st.st_mtime_ns, bool(view.magic), virtual)


def check(payload: PathFile, file: FileRecord, found: os.stat_result) -> None:
    """FileChanged when the file is not what it was, by the rules in the module's first lines."""
    path = payload.path
    if stat.S_IFMT(found.st_mode) != stat.S_IFMT(payload.mode):
        raise FileChanged(f"{path} is of another type than at the dump", hint=_HINT)
    if payload.virtual or not stat.S_ISREG(payload.mode) or file.flags & uapi_files.O_PATH:
        return
    access = file.flags & os.O_ACCMODE
    now, then = found.st_size, payload.size
    appends = bool(file.flags & os.O_APPEND)
    if ((access == os.O_RDWR and not appends) or payload.mapped) and now != then:
        raise FileChanged(f"{path} had {then} bytes at the dump and has {now} now", hint=_HINT)
    if payload.mapped and access == os.O_RDONLY and found.st_mtime_ns != payload.mtime_ns:
        raise FileChanged(f"{path} was modified since the dump, and is mapped by the task", hint=_HINT)
    if now < min(file.pos, then):
        raise FileChanged(
            f"{path} has {now} bytes, fewer than the position {file.pos} at which the task has it open",
            hint=_HINT,
        )


KIND = RegularFiles()
