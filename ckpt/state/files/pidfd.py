"""pidfd_open(2), of tasks in the tree and of others."""

from __future__ import annotations

import os

from ckpt.errors import KernelError, NoSuchTask, RestoreError
from ckpt.kernel import procfs, uapi
from ckpt.kernel.libc import syscall
from ckpt.records.base import Record
from ckpt.records.file_kinds import NoPayload, PidFd
from ckpt.records.files import FileRecord
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files.base import FileView

SUPPORT = Support("pipes", "pidfd", "of tasks in the tree and of others")

_KEPT = os.O_NONBLOCK | os.O_EXCL  # PIDFD_NONBLOCK, PIDFD_THREAD


class PidFds:
    """anon_inode:[pidfd], or pidfd:[INO]"""

    kind = "pidfd"

    def recognises(self, view: FileView) -> bool:
        return view.link == "anon_inode:[pidfd]" or view.link.startswith("pidfd:[")

    def collect(self, view: FileView, context: CollectContext) -> Record:
        pid = int(view.info.get("Pid", ["-1"])[0])
        try:
            if any(pid in task.tids for task in context.tasks):
                return PidFd(pid, 0)
            if pid > 0:
                return PidFd(pid, procfs.stat(pid).start_time)
        except NoSuchTask:
            pass
        context.refuse(
            view.pid,
            view.subject,
            "refers to a process that is gone, which cannot be restored",
            "let the task close it",
        )
        return NoPayload()

    def restore(self, file: FileRecord, context: RestoreContext) -> int:
        payload: PidFd = file.payload
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


KIND = PidFds()
