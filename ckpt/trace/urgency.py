"""ckpt's own priority while a tree is frozen: on a busy machine each wait for a core would be the target's wait."""

from __future__ import annotations

from ckpt.errors import KernelError
from ckpt.kernel import taskinfo
from ckpt.kernel import uapi_state as us

_HIGHEST = -20  # nice


class Urgency:
    """From `start` to `end` this thread runs before all others of ordinary priority; not what it starts meanwhile.

    Nothing happens without the right to it (CAP_SYS_NICE), or where the caller chose a priority for ckpt.
    """

    def __init__(self) -> None:
        self._flags: int | None = None  # the thread's own, while it is raised

    def start(self) -> None:
        try:
            policy, flags, nice = taskinfo.sched_getattr(0)[:3]
            if policy != us.SCHED_NORMAL or nice != 0:
                return
            _set(flags | us.SCHED_FLAG_RESET_ON_FORK, _HIGHEST)
        except KernelError:
            return
        self._flags = flags

    def end(self) -> None:
        """Back to what it was; safe to call twice."""
        flags, self._flags = self._flags, None
        if flags is None:
            return
        try:
            _set(flags, 0)
        except KernelError:  # RLIMIT_NICE gave the right, and is not enough to take the flag away
            _set(flags | us.SCHED_FLAG_RESET_ON_FORK, 0)


def _set(flags: int, nice: int) -> None:
    taskinfo.sched_setattr(0, us.SCHED_NORMAL, flags, nice, 0, 0, 0, 0)
