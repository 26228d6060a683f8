"""What no call tells of POSIX timers: the periods that went by since a signal waits, and who goes by the wall clock."""

from __future__ import annotations

import time
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


def moments(pid: int, tid: int) -> dict[int, int]:
    """timer id -> nanoseconds of CLOCK_REALTIME at which it goes off next, of those set with TIMER_ABSTIME.

    Unsupported without CAP_BPF. One that was set for a while goes by CLOCK_MONOTONIC: hrtimer_setup of
    kernel/time/hrtimer.c.
    """
    types = kernel_types()
    found = {}
    with KernelMemory() as memory:
        for timer in _timers(memory, task_of(memory, pid, tid)):
            if memory.u32(timer + types.offset("k_itimer", "it_clock")) != time.CLOCK_REALTIME:
                continue
            hrtimer = timer + types.offset("k_itimer", "it", "real", "timer")
            base = memory.u64(hrtimer + types.offset("hrtimer", "base"))
            if base and memory.u32(base + types.offset("hrtimer_clock_base", "clockid")) == time.CLOCK_REALTIME:
                number = memory.u32(timer + types.offset("k_itimer", "it_id"))
                found[number] = memory.u64(hrtimer + types.offset("hrtimer", "_softexpires"))
    return found


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
