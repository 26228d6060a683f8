"""Files and directories of /proc, and namespaces held open.

/proc/PID of a task in the tree is opened when that pid exists again; another process's is refused, for its
pid may belong to anyone at the restore.
"""

from __future__ import annotations

import os
import re
import stat

from ckpt.kernel import uapi_files
from ckpt.records.base import Record
from ckpt.records.file_kinds import NamespaceFile, NoPayload
from ckpt.records.files import FileRecord
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files import paths
from ckpt.state.files.base import FileView
from ckpt.state.files.regular import path_payload

SUPPORT = Support("files", "/proc", "files and directories of tasks in the tree, of the system, namespaces")

_PID = re.compile(r"/proc/(\d+)(/|$)")
_NAMESPACE = re.compile(r"(cgroup|ipc|mnt|net|pid|time|user|uts):\[(\d+)\]$")
_UNSAFE = ("/proc/kmsg", "/proc/kcore")


class ProcFiles:
    """Whatever lies under /proc."""

    kind = "proc"

    def recognises(self, view: FileView) -> bool:
        return (view.link == "/proc" or view.link.startswith("/proc/")) and not stat.S_ISLNK(view.stat.st_mode)

    def collect(self, view: FileView, context: CollectContext) -> Record:
        found = _PID.match(view.link)
        if found and not any(int(found[1]) in (task.pid, *task.tids) for task in context.tasks):
            context.refuse(
                view.pid,
                view.subject,
                f"belongs to process {found[1]}, which is outside the tree or gone",
                "close it before the dump, or dump both processes in one tree",
            )
        elif view.link in _UNSAFE or not paths.reachable(view.link, view.stat):
            context.refuse(view.pid, view.subject, "cannot be opened again", "close it before the dump")
        return path_payload(view, view.link)

    def restore(self, file: FileRecord, context: RestoreContext) -> int:
        return paths.open_path(file.payload.path, file.flags)


class Namespaces:
    """/proc/PID/ns/… held open: restorable when it is the namespace in which ckpt works, too."""

    kind = "namespace"

    def recognises(self, view: FileView) -> bool:
        return _NAMESPACE.match(view.link) is not None and not view.flags & uapi_files.O_PATH

    def collect(self, view: FileView, context: CollectContext) -> Record:
        found = _NAMESPACE.match(view.link)
        assert found is not None
        try:
            own = os.stat(f"/proc/self/ns/{found[1]}").st_ino
        except OSError:
            own = 0
        if own != int(found[2]):
            context.refuse(
                view.pid,
                view.subject,
                "is a namespace other than the one ckpt runs in",
                "close it before the dump, or run ckpt inside that namespace",
            )
            return NoPayload()
        return NamespaceFile(found[1])

    def restore(self, file: FileRecord, context: RestoreContext) -> int:
        path = f"/proc/self/ns/{file.payload.name}"
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise paths.cannot_open(path, error) from None


KIND = ProcFiles()
NAMESPACES = Namespaces()
