"""io_uring where no descriptor tells of it: threads of the kernel that work for a ring, rings that have none."""

from __future__ import annotations

from ckpt.kernel.writers import Writers
from ckpt.state.context import CollectContext, FrozenTaskLike

WRITERS = "writers"  # in CollectContext.shared: the open way to ask, when there is one
_HINT = "start the program without io_uring, or let it close its rings first"


def is_there(task: FrozenTaskLike, writers: Writers | None) -> bool:
    """Whether the task has a ring, as its threads tell: a worker of the kernel's may outlive the last one."""
    told = None if writers is None else writers.ring(task.pid)
    return bool(task.workers) if told is None else told


def refuse(task: FrozenTaskLike, context: CollectContext) -> None:
    """Refuse it, unless a descriptor or a mapping alone has shown it."""
    shown = any(refusal.pid == task.pid and "io_uring" in refusal.reason for refusal in context.refusals)
    if (task.workers or not shown) and is_there(task, context.shared.get(WRITERS)):
        subject = f"thread {min(task.workers)}" if task.workers else "memory"
        what = "works for an io_uring, which" if task.workers else "has an io_uring without a descriptor, which"
        context.refuse(task.pid, subject, f"{what} cannot be restored", _HINT, passing=True)
