"""Files and directories of /proc, and namespaces held open.

/proc/PID of a task in the tree is opened when that pid exists again; another process's is refused, for its pid may
belong to anyone at the restore.
"""

from __future__ import annotations

import os
import re
import stat

from ckpt.errors import RestoreError
from ckpt.kernel import uapi_files
from ckpt.records.base import Record
from ckpt.records.file_kinds import NamespaceFile, NoPayload
from ckpt.records.files import FileRecord
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files import paths
from ckpt.state.files.base import FileView
from ckpt.state.files.regular import path_payload

_PID = re.compile(r"/proc/(\d+)(/|$)")
_NAMESPACE = re.compile(r"(cgroup|ipc|mnt|net|pid|time|user|uts):\[(\d+)\]$")
_UNSAFE = ("/proc/kmsg", "/proc/kcore")


class ProcFiles:
    """Whatever lies under /proc."""

    kind = "proc"

    def recognises(self, view: FileView) -> bool:
        return (view.link == "/proc" or view.link.startswith("/proc/")) and not stat.S_ISLNK(
            view.stat.st_mode
        )

    def collect(self, view: FileView, context: CollectContext) -> Record:
        found = _PID.match(view.link)
        if found and int(found[1]) not in {task.pid for task in context.tasks}:
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
        return paths.open_path(file.payload.path, file.flags & ~paths.ONCE)


class Namespaces:
    """/proc/PID/ns/… held open: restorable when it is the namespace that the task lives in."""

    kind = "namespace"

    def recognises(self, view: FileView) -> bool:
        return _NAMESPACE.match(view.link) is not None and not view.flags & uapi_files.O_PATH

    def collect(self, view: FileView, context: CollectContext) -> Record:
        found = _NAMESPACE.match(view.link)
        assert found is not None
        pid = view.in_flight_of or view.pid
        try:
            own = os.stat(f"/proc/{pid}/ns/{found[1]}").st_ino
        except OSError:
            own = 0
        if own != int(found[2]):
            context.refuse(
                pid, view.subject, "is a namespace other than the task's own", "close it before the dump"
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


def pid_missing(pid: int) -> RestoreError:
    """A file refers to a task that does not exist (any more)."""
    return RestoreError(
        f"a file of the tree refers to process {pid}, which does not exist here",
        hint="restore while that process runs, or dump it together with the tree",
    )
