"""POSIX timers whose signal waits: how many periods went by since then no call tells before the signal is taken."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt.errors import KernelError
from ckpt.kernel.btf import kernel_types
from ckpt.kernel.held import task_of
from ckpt.kernel.kernel_memory import KernelMemory

_MOST = 1 << 16  # timers


def periods_gone_by(pid: int, tid: int) -> dict[int, int]:
    """timer id -> periods since the expiry whose signal waits, up to the last timer_gettime.

    Unsupported without CAP_BPF. `it_overrun` starts at -1, and is set forward by timer_gettime: common_timer_get of
    kernel/time/posix-timers.c.
    """
    types = kernel_types()
    with KernelMemory() as memory:
        return {
            memory.u32(timer + types.offset("k_itimer", "it_id")): overrun + 1
            for timer in _timers(memory, task_of(memory, pid, tid))
            if 0 <= (overrun := memory.u64(timer + types.offset("k_itimer", "it_overrun"))) < 1 << 63
        }


def _timers(memory: KernelMemory, task: int) -> Iterator[int]:
    """A list with a head in it, or since 6.13 one that ends with NULL."""
    types = kernel_types()
    signal = memory.u64(task + types.offset("task_struct", "signal"))
    head = signal + types.offset("signal_struct", "posix_timers")
    node, count = memory.u64(head), 0
    while node not in (0, head):
        yield node - types.offset("k_itimer", "list")
        node, count = memory.u64(node), count + 1
        if count > _MOST:
            raise KernelError("a list of timers in the kernel's memory has no end")
