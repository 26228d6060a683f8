"""General registers and the extended state, and interrupted system calls.

An interrupted call goes on in the restored thread as it would have after a stop (`ckpt.trace.waits`), for the rest of
its time where it had a relative timeout.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from ckpt.errors import HostMismatch, KernelError
from ckpt.kernel import ptrace_requests as ptrace
from ckpt.kernel import uapi
from ckpt.kernel import uapi_state as us
from ckpt.kernel.memory import Memory
from ckpt.records.state import Registers
from ckpt.records.support import Support
from ckpt.state.rebuild import rebuilding
from ckpt.trace import waits
from ckpt.trace.sigframe import ARGUMENTS, ORIG_RAX, RAX, RIP, RSI, pack, unpack
from ckpt.trace.skeleton import Skeleton

SUPPORT = Support(
    "registers",
    "registers",
    "general, x87 to AVX-512 and AMX, TLS, debug; interrupted calls restart, timed ones with what was left",
    refused="",
    lost="how much of the time limit of a socket (SO_RCVTIMEO) had passed; without CAP_BPF, of a relative poll, futex "
    "or EINTR-prone wait, and of a sleep that is not to tell its rest; that a timed wait or epoll_wait which was begun "
    "with int 0x80 goes on: it ends with EINTR; what a call that waits had found by a path or a descriptor which is "
    "another's by now (an open of a FIFO that was renamed, a sendmsg whose SCM_RIGHTS were closed): it looks again "
    "when it restarts, after the freeze of a pre-dump, too",
)

_M64 = (1 << 64) - 1
_KERNEL_RESTARTS = frozenset({us.ERESTARTSYS, us.ERESTARTNOINTR, us.ERESTARTNOHAND, us.ERESTART_RESTARTBLOCK})
_MOV_EAX, _SYSCALL = 0xB8, b"\x0f\x05"
_CALL_SITE = 7  # mov $nr,%eax; syscall

ReadMemory = Callable[[int, int], bytes]


def collect_registers(tid: int) -> Registers:
    """As they stand: to be called before any remote syscall in the thread.

    A thread that was frozen once before in a timed wait sits in restart_syscall, which means nothing in a new task:
    the call is named by what it stands for. The thread may have to sleep again for that, and may wake up.
    """
    gpr = ptrace.getregset(tid, uapi.NT_PRSTATUS)
    r = unpack(gpr)
    if r[ORIG_RAX] == uapi.SYS_restart_syscall and waits.error_of(r) == us.ERESTART_RESTARTBLOCK:
        gpr = _named(tid, gpr, r[RIP])
    return Registers(gpr=gpr, xstate=ptrace.getregset(tid, uapi.NT_X86_XSTATE))


def _named(tid: int, gpr: bytes, rip: int) -> bytes:
    try:
        with Memory(tid) as memory:
            named = name_restarted_call(gpr, memory.read(rip - _CALL_SITE, _CALL_SITE))
    except KernelError:
        named = gpr
    if named != gpr:
        return named
    nr = waits.restarted_call(tid, unpack(gpr))
    r = unpack(ptrace.getregset(tid, uapi.NT_PRSTATUS))
    if nr is not None and r[ORIG_RAX] == uapi.SYS_restart_syscall:
        r[ORIG_RAX] = nr
    return pack(r)


def name_restarted_call(gpr: bytes, site: bytes) -> bytes:
    """Replace restart_syscall by the call it stands for, where the code at the call's site says the number."""
    if len(site) != _CALL_SITE or site[0] != _MOV_EAX or site[5:] != _SYSCALL:
        return gpr
    nr = int.from_bytes(site[1:5], "little")
    if nr not in waits.RESTARTED:
        return gpr
    r = unpack(gpr)
    r[ORIG_RAX] = nr
    return pack(r)


def restore_registers(tid: int, record: Registers, wait_left_ns: int = -1) -> None:
    """The last act on a thread but its signal mask: nothing may run in it afterwards but the task itself.

    A call in which the thread was interrupted is left to the kernel, which repeats it or ends it with EINTR as the
    signals demand that wait for the thread.
    """
    r = unpack(record.gpr)
    if waits.in_call(r) and waits.error_of(r) in _KERNEL_RESTARTS:
        with rebuilding(tid, "registers"):
            waits.event_stop(tid)
        if wait_left_ns >= 0:
            r = waits.shortened(tid, r, wait_left_ns)
    else:
        r[ORIG_RAX] = _M64
    with rebuilding(tid, "registers"):
        _restore_xstate(tid, record.xstate)
        ptrace.setregset(tid, uapi.NT_PRSTATUS, pack(r))


def _restore_xstate(tid: int, xstate: bytes) -> None:
    try:
        ptrace.setregset(tid, uapi.NT_X86_XSTATE, xstate)
    except KernelError as error:
        size = len(ptrace.getregset(tid, uapi.NT_X86_XSTATE))
        raise HostMismatch(
            f"task {tid}: this CPU cannot hold the thread's extended registers "
            f"({len(xstate)} bytes in the image, {size} here): {error.message}",
            hint="restore on a host whose CPU has the same features (/proc/cpuinfo flags)",
        ) from error


def wait_again(skeleton: Skeleton, record: Registers, left_ns: int) -> Registers:
    """Make a timed wait once more, with what was left of it, and interrupt it: from there the kernel resumes it.

    In the restored task, before its skeleton's block goes. Gives the registers to restore: those of the record, or
    with the call's result if it did not have to wait.
    """
    r = unpack(record.gpr)
    if not waits.in_call(r) or waits.error_of(r) != us.ERESTART_RESTARTBLOCK:
        return record
    timeout = waits.RESTARTED.get(r[ORIG_RAX])
    if timeout is None:
        r[RAX] = (_M64 + 1 - errno.EINTR) & _M64
    else:
        call = list(r)
        if left_ns >= 0 and timeout.unit == "ms":
            call[timeout.register] = waits.milliseconds(left_ns)
        elif left_ns >= 0:
            call[timeout.register] = skeleton.put(waits.timespec(left_ns))
        if r[ORIG_RAX] == uapi.SYS_clock_nanosleep:
            call[RSI] = 0
        result = skeleton.interrupted(r[ORIG_RAX], *(call[register] for register in ARGUMENTS))
        if result == -us.ERESTART_RESTARTBLOCK:
            return record
        r[RAX] = result & _M64
    r[ORIG_RAX] = _M64
    return Registers(pack(r), record.xstate)
