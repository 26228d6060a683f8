"""When an interrupted timed wait is to end: what its restart block says, which only the kernel's memory shows.

struct restart_block of include/linux/restart_block.h. It holds until the thread makes another call, however long ago it
was interrupted.
"""

from __future__ import annotations

from ckpt.errors import Unsupported
from ckpt.kernel import uapi
from ckpt.kernel.btf import kernel_types
from ckpt.kernel.held import task_of
from ckpt.kernel.kernel_memory import KernelMemory

_NS = 1_000_000_000


def expiry(memory: KernelMemory, pid: int, tid: int, nr: int) -> int:
    """Nanoseconds on the clock of the wait `nr` (poll, nanosleep, clock_nanosleep, futex) that a thread is to resume.

    Unsupported and KernelError as in `kernel_memory`.
    """
    types, task = kernel_types(), task_of(memory, pid, tid)

    def member(*names: str) -> int:
        return memory.u64(task + types.offset("task_struct", "restart_block", *names))

    if nr == uapi.SYS_futex:
        return member("futex", "time")
    if nr != uapi.SYS_poll:
        return member("nanosleep", "expires")
    try:
        return member("poll", "tv_sec") * _NS + member("poll", "tv_nsec")
    except Unsupported:
        return member("poll", "end_time", "tv_sec") * _NS + member("poll", "end_time", "tv_nsec")
