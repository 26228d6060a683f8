"""Stopped tasks of a tree being built, and what their parents have not heard of them yet."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Mapping, Sequence

from ckpt.kernel import uapi, uapi_restore
from ckpt.records.task import TaskRecord
from ckpt.trace.skeleton import Skeleton

_WUNTRACED = 2


def stop(
    task: TaskRecord, tasks: Mapping[int, TaskRecord], threads: Sequence[Skeleton], parent: Skeleton | None
) -> None:
    """Bring the task into group-stop now, while its parent's SIGCHLD can still be taken back.

    `parent`: in the tree; it is made to wait for the stop if it had done so before the dump.
    """
    number = task.stop_signal or signal.SIGSTOP
    if number != signal.SIGSTOP and _orphaned(task, tasks):
        number = signal.SIGSTOP  # the kernel ignores the others in an orphaned process group
    os.kill(task.pid, signal.SIGSTOP)
    for thread in threads:
        thread.enter_group_stop(number)
    if parent is not None and task.news != "stopped":
        flags = uapi_restore.WALL | uapi_restore.WNOHANG | _WUNTRACED
        parent.syscall(uapi_restore.SYS_wait4, task.pid, 0, flags, 0)
    if task.news == "continued":
        os.kill(task.pid, signal.SIGCONT)
        for thread in threads:
            thread.enter_stop()


def drain(leader: Skeleton, ends: Iterable[int]) -> None:
    """Take back the signals that came of the building itself. `ends`: those by which the end of a child is told."""
    mask = sum(1 << (number - 1) for number in {signal.SIGCHLD, signal.SIGCONT, *ends} if number)
    address = leader.put(mask.to_bytes(8, "little") + bytes(16))
    while leader.attempt(uapi.SYS_rt_sigtimedwait, address, 0, address + 8, 8) > 0:
        pass
    leader.close_memory()


def _orphaned(task: TaskRecord, tasks: Mapping[int, TaskRecord]) -> bool:
    """Whether no member of its process group has a parent in another group of the session."""
    for member in tasks.values():
        parent = tasks.get(member.ppid)
        if parent is None or member.pgid != task.pgid:
            continue
        if parent.sid == member.sid and parent.pgid != member.pgid:
            return False
    return True
