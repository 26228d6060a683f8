"""pidfd_open(2), of tasks in the tree, of others, and of processes that are gone."""

from __future__ import annotations

import os
from contextlib import suppress

from ckpt.errors import KernelError, NoSuchTask, RestoreError
from ckpt.kernel import procfs, tiny, uapi
from ckpt.kernel.libc import syscall
from ckpt.records.base import Record
from ckpt.records.file_kinds import PidFd
from ckpt.records.files import FileRecord
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files.base import FileView

SUPPORT = Support("pipes", "pidfd", "of tasks in the tree, of others, of processes that are gone")

_KEPT = os.O_NONBLOCK | os.O_EXCL  # PIDFD_NONBLOCK, PIDFD_THREAD
_EXIT = bytes.fromhex("31ff b8e7000000 0f05")  # xor edi, edi; mov eax, SYS_exit_group; syscall


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
        return PidFd(0, 0, view.stat.st_ino)

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


def _of_the_dead(payload: PidFd, flags: int, context: RestoreContext) -> int:
    """A pidfd of a process that has ended; one process for all that referred to the same, reaped when all are open."""
    key = f"pidfd:dead:{payload.ino}"
    if key not in context.shared:
        pid = context.shared[key] = tiny.start("ckpt-ended", _EXIT)

        def reap() -> None:
            if context.shared.pop(key, 0):
                with suppress(ChildProcessError):
                    os.waitpid(pid, 0)

        context.stack.callback(reap)
        context.when_opened(reap)
    return syscall("pidfd_open", uapi.SYS_pidfd_open, context.shared[key], flags & _KEPT)


KIND = PidFds()
