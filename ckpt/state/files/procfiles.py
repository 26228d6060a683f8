"""Files and directories of /proc, and namespaces held open.

/proc/PID of a task in the tree is opened when that pid exists again; of one that has ended, while a helper has its
number. Another process's is refused, for its pid may belong to anyone at the restore.
"""

from __future__ import annotations

import errno
import os
import re
import signal
from contextlib import ExitStack, suppress
from dataclasses import replace

from ckpt.kernel import tiny, uapi_files
from ckpt.records.base import Record
from ckpt.records.file_kinds import NamespaceFile, NoPayload, PathFile
from ckpt.records.files import FileRecord
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files import channel, paths
from ckpt.state.files.base import FileView
from ckpt.state.files.regular import path_payload

SUPPORT = Support(
    "files", "/proc", "files and directories of tasks in the tree, of ended ones, of the system, namespaces"
)

_PID = re.compile(r"/proc/(\d+)(/|$)")
_TASK = re.compile(r"/proc/(\d+)(?:/task/(\d+))?(?=/|$)")
_DESCRIPTOR = re.compile(r"/proc/(\d+)/(?:task/\d+/)?fd(?:info)?/(\d+)$")  # there before the descriptor is
_NAMESPACE = re.compile(r"(cgroup|ipc|mnt|net|pid|time|user|uts):\[(\d+)\]$")
_HOW = os.O_ACCMODE | os.O_NOFOLLOW | uapi_files.O_PATH
_UNSAFE = ("/proc/kmsg", "/proc/kcore")
_PAUSE = bytes.fromhex("b822000000 0f05 ebf7")  # mov eax, SYS_pause; syscall; and again


class ProcFiles:
    """Whatever lies under /proc."""

    kind = "proc"

    def recognises(self, view: FileView) -> bool:
        return view.link == "/proc" or view.link.startswith("/proc/")

    def collect(self, view: FileView, context: CollectContext) -> Record:
        found = _PID.match(view.link)
        ended = _ended(view)
        if ended:
            return replace(path_payload(view, paths.without_deleted(view.link)), ended=ended)
        if found and not _in_tree(int(found[1]), context):
            context.refuse(
                view.pid,
                view.subject,
                f"belongs to process {found[1]}, which is outside the tree",
                "close it before the dump, or dump both processes in one tree",
            )
        elif (
            view.link in _UNSAFE
            or not paths.reachable(view.link, view.stat)
            or (found and int(found[1]) in context.shared.get("tree:zombies", ()) and not _opens(view))
        ):
            context.refuse(view.pid, view.subject, "cannot be opened again", "close it before the dump")
        return path_payload(view, view.link)

    def restore(self, file: FileRecord, context: RestoreContext) -> int:
        payload: PathFile = file.payload
        if payload.ended:
            return _of_the_ended(payload, file.flags, context)
        match = _DESCRIPTOR.match(payload.path)
        if match is not None and context.acting is not None:
            with context.acting(int(match[1])) as task:
                if task is not None:
                    with channel.standing_at(context, task, int(match[2])):
                        return open_at(payload, file)
        return open_at(payload, file)


def open_at(payload: PathFile, file: FileRecord) -> int:
    """At its position. The kernel makes the text up to there, and is to make it anew when the task reads on."""
    fd = paths.open_path(payload.path, file.flags)
    if file.pos and not file.flags & uapi_files.O_PATH:
        with suppress(OSError):  # ESPIPE, or it cannot be read
            os.lseek(fd, file.pos, os.SEEK_SET)
            os.pread(fd, 1, 0)  # seq_read drops what it has when the next read is from somewhere else
    return fd


def _ended(view: FileView) -> int:
    """The process or thread that the file belonged to and that is gone; 0 while it exists, a zombie too."""
    path = paths.without_deleted(view.link)
    match = _TASK.match(path)
    if match is None or view.stat.st_dev != os.stat("/proc").st_dev or paths.reachable(path, view.stat):
        return 0
    return int(match[2] or match[1])


def _in_tree(pid: int, context: CollectContext) -> bool:
    zombies = context.shared.get("tree:zombies", ())
    return pid in zombies or any(pid in (task.pid, *task.tids) for task in context.tasks)


def _opens(view: FileView) -> bool:
    """Whether the kernel opens it now: it refuses most of what is about the memory of a zombie."""
    try:
        os.close(os.open(view.link, view.flags & _HOW | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return error.errno not in (errno.ESRCH, errno.ENOENT, errno.EIO)
    return True


def _of_the_ended(payload: PathFile, flags: int, context: RestoreContext) -> int:
    """Opened while a helper has the number; when that is somebody else's by now, of any process that ends."""
    match = _TASK.match(payload.path)
    rest = payload.path[match.end() :] if match is not None else ""
    with ExitStack() as stack:
        task = None
        if context.acting is not None and payload.ended not in context.pids:
            task = stack.enter_context(context.acting(payload.ended))
        if task is not None:
            number = task.pid
        else:
            number = tiny.start("ckpt-ended", _PAUSE)
            stack.callback(os.waitpid, number, 0)
            stack.callback(os.kill, number, signal.SIGKILL)
        middle = f"/task/{number}" if match is not None and match[2] else ""
        return paths.open_path(f"/proc/{number}{middle}{rest}", flags)


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
