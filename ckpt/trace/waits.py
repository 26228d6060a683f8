"""Calls in which a stop of the thread interrupted it: which they are, how long they had to wait, how they go on.

The kernel restarts most calls by itself. Those of `RESTARTED` it resumes from a restart block, which cannot be read and
is made again by making the call once more. Those of `ENDED` it ends with EINTR for any interruption, though no signal
came: with ERESTARTNOHAND in the register of the result it repeats them as it does others, or ends them with EINTR when
a signal handler is to run first. So does ckpt with those of `RESTARTED` where a filter forbids restart_syscall.
"""

from __future__ import annotations

import errno
import os
import time
from dataclasses import dataclass

from ckpt.errors import KernelError, NoSuchTask
from ckpt.kernel import procfs, reports, seccomp_filter, uapi
from ckpt.kernel import ptrace_requests as ptrace
from ckpt.kernel import uapi_state as us
from ckpt.kernel.memory import Memory
from ckpt.kernel.namespaces import timer_clock_ns
from ckpt.kernel.wakeups import Wakeups
from ckpt.trace.sigframe import (
    ARGUMENTS,
    ORIG_RAX,
    R8,
    R10,
    RAX,
    RDI,
    RDX,
    RED_ZONE,
    RSI,
    RSP,
    is_foreign,
    pack,
    unpack,
)

_M64 = (1 << 64) - 1
_NS = 1_000_000_000

_SLEEPS_AFTER = 0.1  # seconds, on the busiest machine
_BELOW = 4096  # beyond the red zone: a handler that comes first uses less
_PAGE_ZERO = 4096  # no pointer is below, no clock above


@dataclass(frozen=True, slots=True)
class Timeout:
    """The argument that says how long a call waits, relative to its beginning."""

    register: int
    unit: str  # ms: an int, negative for ever | timespec: a pointer, NULL for ever


RESTARTED = {
    uapi.SYS_poll: Timeout(RDX, "ms"),
    uapi.SYS_nanosleep: Timeout(RDI, "timespec"),
    uapi.SYS_clock_nanosleep: Timeout(RDX, "timespec"),
    uapi.SYS_futex: Timeout(R10, "timespec"),
}
ENDED: dict[int, Timeout | None] = {
    uapi.SYS_epoll_wait: Timeout(R10, "ms"),
    uapi.SYS_epoll_pwait: Timeout(R10, "ms"),
    uapi.SYS_epoll_pwait2: Timeout(R10, "timespec"),
    uapi.SYS_rt_sigtimedwait: Timeout(RDX, "timespec"),
    uapi.SYS_semop: None,
    uapi.SYS_semtimedop: Timeout(R10, "timespec"),
    uapi.SYS_io_getevents: Timeout(R8, "timespec"),
    uapi.SYS_io_pgetevents: Timeout(R8, "timespec"),
    uapi.SYS_io_uring_enter: None,
    # Sockets with SO_RCVTIMEO or SO_SNDTIMEO; the time begins again. Not connect, which would find itself under way.
    uapi.SYS_read: None,
    uapi.SYS_write: None,
    uapi.SYS_readv: None,
    uapi.SYS_writev: None,
    uapi.SYS_accept: None,
    uapi.SYS_accept4: None,
    uapi.SYS_sendto: None,
    uapi.SYS_sendmsg: None,
    uapi.SYS_sendmmsg: None,
    uapi.SYS_recvfrom: None,
    uapi.SYS_recvmsg: None,
    uapi.SYS_recvmmsg: None,
}
_REPEATED = frozenset({us.ERESTARTSYS, us.ERESTARTNOINTR, us.ERESTARTNOHAND})
_CLOCKS = {
    time.CLOCK_REALTIME: time.CLOCK_MONOTONIC,  # a relative wait is not moved by clock_settime
    time.CLOCK_MONOTONIC: time.CLOCK_MONOTONIC,
    time.CLOCK_BOOTTIME: time.CLOCK_BOOTTIME,
    us.CLOCK_REALTIME_ALARM: time.CLOCK_REALTIME,
    us.CLOCK_BOOTTIME_ALARM: time.CLOCK_BOOTTIME,
    time.CLOCK_TAI: time.CLOCK_TAI,
}


def in_call(registers: list[int]) -> bool:
    """Whether the thread was stopped on its way out of a system call."""
    return registers[ORIG_RAX] <= _M64 >> 1


def error_of(registers: list[int]) -> int:
    """The errno in rax, or a number that is none."""
    return _M64 + 1 - registers[RAX]


def timeout_of(registers: list[int]) -> Timeout | None:
    """The timeout of a call that was interrupted in a wait which only `left` can measure.

    None for one that ends at a point in time: made once more, it ends at that point.
    """
    if not in_call(registers):
        return None
    nr, error = registers[ORIG_RAX], error_of(registers)
    timeout = None
    if error in (us.ERESTART_RESTARTBLOCK, us.ERESTARTNOHAND) and not _absolute(nr, registers):
        timeout = RESTARTED.get(nr)
    if error == us.ERESTARTNOHAND and nr in ENDED:
        timeout = ENDED[nr]
    if timeout is None or _for_ever(timeout, registers):
        return None
    return timeout


def _absolute(nr: int, registers: list[int]) -> bool:
    if nr == uapi.SYS_clock_nanosleep:
        return bool(registers[RSI] & us.TIMER_ABSTIME)
    return nr == uapi.SYS_futex and registers[RSI] & us.FUTEX_CMD_MASK == us.FUTEX_WAIT_BITSET


def _for_ever(timeout: Timeout, registers: list[int]) -> bool:
    value = registers[timeout.register]
    return bool(value >> 31 & 1) if timeout.unit == "ms" else value == 0


def left(tid: int, registers: list[int], wakeups: Wakeups | None, ago_ns: int = 0) -> int | None:
    """Nanoseconds that the interrupted call still had to wait `ago_ns` ago; None when it has no end that is known."""
    timeout = timeout_of(registers)
    if timeout is None:
        return None
    clock: int | None = time.CLOCK_MONOTONIC
    if registers[ORIG_RAX] == uapi.SYS_clock_nanosleep:
        clock = _CLOCKS.get(registers[RDI])
    expiry = wakeups.expiry(tid) if wakeups is not None and clock is not None else None
    if expiry is None and wakeups is not None and registers[ORIG_RAX] in RESTARTED:
        pid = int(procfs.status(tid)["Tgid"])
        expiry = wakeups.resumed_until(pid, tid, registers[ORIG_RAX])
        if expiry is not None and clock is None:
            return _cpu_left(pid, tid, registers, expiry)
    if expiry is not None and clock is not None:
        return max(0, expiry - timer_clock_ns(clock) + ago_ns)
    return _remainder(tid, registers)


def _cpu_left(pid: int, tid: int, registers: list[int], expiry: int) -> int | None:
    """Of a sleep on a CPU clock, which stands still while its threads do."""
    named = (registers[RDI] & 0xFFFFFFFF ^ 1 << 31) - (1 << 31)  # clockid_t is an int
    clock = us.cpu_clock_of(pid, tid, named)
    try:
        if thread := us.clock_thread(clock):  # which only threads of its process may ask for the time
            spent = int(procfs.read_bytes(f"/proc/{pid}/task/{thread}/schedstat", pid).split()[0])
        else:
            spent = time.clock_gettime_ns(clock)
        return max(0, expiry - spent)
    except (OSError, KernelError, NoSuchTask):
        return _remainder(tid, registers)


def _remainder(tid: int, registers: list[int]) -> int | None:
    """What the kernel wrote to the second timespec of an interrupted sleep."""
    where = {uapi.SYS_nanosleep: RSI, uapi.SYS_clock_nanosleep: R10}.get(registers[ORIG_RAX])
    if where is None or not registers[where]:
        return None
    try:
        with Memory(tid) as memory:
            seconds, nanoseconds = us.timespec.unpack(memory.read(registers[where], us.timespec.size))
    except KernelError:
        return None
    return int(seconds * _NS + nanoseconds)


def timespec(ns: int) -> bytes:
    """struct timespec."""
    return us.timespec.pack(*divmod(ns, _NS))


def milliseconds(ns: int) -> int:
    """Rounded up: no wait ends too early."""
    return -(-ns // 1_000_000)


# ------------------------------------------------------------------ calls that end with EINTR


def make_restartable(tid: int) -> bytes:
    """Of a thread that has just stopped for ckpt: let it repeat the call that the stop ended. Gives its registers."""
    gpr = ptrace.getregset(tid, uapi.NT_PRSTATUS)
    if is_foreign(gpr):
        return gpr
    registers = unpack(gpr)
    if not in_call(registers):
        return gpr
    error = error_of(registers)
    going_on = us.ERESTARTNOHAND if error == errno.EINTR and registers[ORIG_RAX] in ENDED else error
    going_on = _past_filters(tid, registers, going_on)
    if going_on != error:
        registers[RAX] = _M64 + 1 - going_on
        gpr = pack(registers)
        ptrace.setregset(tid, uapi.NT_PRSTATUS, gpr)
    return gpr


def _past_filters(tid: int, registers: list[int], error: int) -> int:
    """The errno with which an interrupted call goes on so that no seccomp filter of the thread is in its way.

    A filter may know the call and not restart_syscall, and one that other threads have put on this one (TSYNC) may
    forbid the call in which it waits.
    """
    nr = registers[ORIG_RAX]
    args = [registers[place] for place in ARGUMENTS]
    if error == us.ERESTART_RESTARTBLOCK and seccomp_filter.turned_away(tid, uapi.SYS_restart_syscall, args):
        error = us.ERESTARTNOHAND if nr in RESTARTED else errno.EINTR
    if error in _REPEATED and seccomp_filter.turned_away(tid, nr, args):
        return errno.EINTR
    return error


def shortened(tid: int, registers: list[int], left_ns: int) -> list[int]:
    """Registers that repeat a call for `left_ns` only, if it had a timeout and is not resumed from a restart block.

    A new timespec is written below the thread's stack, where it is read by the next instruction.
    """
    timeout = timeout_of(registers)
    if timeout is None or error_of(registers) == us.ERESTART_RESTARTBLOCK:
        return registers
    r = list(registers)
    if timeout.unit == "ms":
        r[timeout.register] = milliseconds(left_ns)
        return r
    place = (r[RSP] - RED_ZONE - _BELOW) & ~15
    try:
        with Memory(tid, write=True) as memory:
            memory.write(place, timespec(left_ns))
    except KernelError:
        return registers  # the time begins again
    r[timeout.register] = place
    return r


def go_on(tid: int, gpr: bytes, wakeups: Wakeups) -> None:
    """Before a thread is let go from its PTRACE_EVENT_STOP: a call that is repeated waits for what is left.

    `gpr` are the registers that it stands with.
    """
    if is_foreign(gpr):
        return
    registers = unpack(gpr)
    if not in_call(registers) or error_of(registers) != us.ERESTARTNOHAND:
        return
    left_ns = left(tid, registers, wakeups)
    if left_ns is not None:
        ptrace.setregset(tid, uapi.NT_PRSTATUS, pack(shortened(tid, registers, left_ns)))


# ------------------------------------------------------------------ calls that go on from a restart block


def restarted_call(tid: int, registers: list[int]) -> int | None:
    """Which call a thread resumes that sits in restart_syscall, found by where it sleeps; None when it cannot be told.

    The thread must be in a PTRACE_EVENT_STOP, and is in one again, with other registers when its wait has ended.
    """
    ptrace.syscall_step(tid)
    if not _syscall_stop(tid):
        return None
    ptrace.syscall_step(tid)
    end = time.monotonic() + _SLEEPS_AFTER
    while (state := procfs.state(tid)) == "R" and time.monotonic() < end:
        os.sched_yield()
    place = procfs.read_bytes(f"/proc/{tid}/wchan", tid).decode()
    ptrace.interrupt(tid)
    _syscall_stop(tid)
    event_stop(tid)
    if state != "S":
        return None
    if "futex" in place:
        return uapi.SYS_futex
    if "poll" in place:
        return uapi.SYS_poll
    return uapi.SYS_nanosleep if _PAGE_ZERO <= registers[RDI] < 1 << 47 else uapi.SYS_clock_nanosleep


def _syscall_stop(tid: int) -> bool:
    status = reports.wait(tid)
    return os.WIFSTOPPED(status) and os.WSTOPSIG(status) & 0x80 != 0


def event_stop(tid: int) -> None:
    """Bring a stopped thread to a PTRACE_EVENT_STOP, where the kernel looks at the call it was in.

    Nothing of the thread's own runs before that; a signal that comes first is delivered.
    """
    number = 0
    while True:
        ptrace.interrupt(tid)  # again each time, for any other stop takes the request back
        ptrace.cont(tid, number)
        status = reports.wait(tid)
        if not os.WIFSTOPPED(status) or status >> 16 == uapi.PTRACE_EVENT_STOP:
            return
        number = os.WSTOPSIG(status)
        if number & 0x80 or status >> 16:
            number = 0
