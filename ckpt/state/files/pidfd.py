"""pidfd_open(2), of tasks in the tree, of others, and of processes that are gone."""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import suppress

from ckpt.errors import KernelError, NoSuchTask, RestoreError
from ckpt.kernel import procfs, tiny, uapi, uapi_files
from ckpt.kernel.libc import syscall
from ckpt.records.base import Record
from ckpt.records.file_kinds import PidFd
from ckpt.records.files import FileRecord
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files.base import FileView

SUPPORT = Support("pipes", "pidfd", "of tasks in the tree, of others, of processes that are gone, with their status")

_KEPT = os.O_NONBLOCK | os.O_EXCL  # PIDFD_NONBLOCK, PIDFD_THREAD
_EXIT = "bf%s b8e7000000 0f05"  # mov edi, status; mov eax, SYS_exit_group; syscall
_KILLED = (
    "bf04000000 31f6 b89d000000 0f05"  # prctl(PR_SET_DUMPABLE, 0): it leaves no core file
    "b827000000 0f05 89c7 be%s b83e000000 0f05"  # kill(getpid(), signal)
)


class PidFds:
    """anon_inode:[pidfd], or pidfd:[INO]"""

    kind = "pidfd"

    def recognises(self, view: FileView) -> bool:
        return view.link == "anon_inode:[pidfd]" or view.link.startswith("pidfd:[")

    def collect(self, view: FileView, context: CollectContext) -> Record:
        pid = int(view.info.get("Pid", ["-1"])[0])
        try:
            if any(pid in (task.pid, *task.tids) for task in context.tasks):
                return PidFd(pid, 0)
            if pid > 0:
                return PidFd(pid, procfs.stat(pid).start_time)
        except NoSuchTask:
            pass
        return PidFd(0, 0, view.stat.st_ino, _status(view.steal(context)))

    def restore(self, file: FileRecord, context: RestoreContext) -> int:
        payload: PidFd = file.payload
        if not payload.pid:
            return _of_the_dead(payload, file.flags, context)
        try:
            inside = not payload.start_time or payload.pid in context.pids
            if not inside and procfs.stat(payload.pid).start_time != payload.start_time:
                raise NoSuchTask("another process has the pid")
            name = f"pidfd_open({payload.pid})"
            return syscall(name, uapi.SYS_pidfd_open, payload.pid, file.flags & _KEPT)
        except (KernelError, NoSuchTask):
            raise RestoreError(
                f"a pidfd of the tree refers to process {payload.pid}, which does not exist here",
                hint="restore while that process runs, or dump it together with the tree",
            ) from None


def _status(fd: int) -> int:
    """The wait status of a process that was waited for, but for WCOREDUMP; 0 where the kernel does not keep it."""
    info = bytearray(uapi_files.PIDFD_INFO_SIZE_VER0)
    struct.pack_into("<Q", info, 0, uapi_files.PIDFD_INFO_EXIT)
    with suppress(OSError):  # ENOTTY before Linux 6.13, ESRCH before 6.15
        fcntl.ioctl(fd, uapi_files.PIDFD_GET_INFO, info)
        mask, status = uapi_files.pidfd_info.unpack(info)
        if mask & uapi_files.PIDFD_INFO_EXIT:
            return int(status) & 0xFF7F
    return 0


def _ending(status: int) -> bytes:
    """A program that ends so."""
    how, number = (_KILLED, status & 0x7F) if status & 0x7F else (_EXIT, status >> 8)
    return bytes.fromhex(how % number.to_bytes(4, "little").hex())


def _of_the_dead(payload: PidFd, flags: int, context: RestoreContext) -> int:
    """A pidfd of a process that has ended; one process for all that referred to the same, reaped when all are open."""
    key = f"pidfd:dead:{payload.ino}"
    if key not in context.shared:
        pid = context.shared[key] = tiny.start("ckpt-ended", _ending(payload.status))

        def reap() -> None:
            if context.shared.pop(key, 0):
                with suppress(ChildProcessError):
                    os.waitpid(pid, 0)

        context.stack.callback(reap)
        context.when_opened(reap)
    return syscall("pidfd_open", uapi.SYS_pidfd_open, context.shared[key], flags & _KEPT)


KIND = PidFds()
