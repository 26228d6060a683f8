"""General registers and the extended state, interrupted system calls and rseq critical sections.

An interrupted call is repeated by the restored thread as the kernel would have repeated it. Where only the kernel
knew what was left: nanosleep and clock_nanosleep go on with the remainder that the kernel wrote to the caller's
buffer, if there is one; else they, poll and a futex wait with a relative timeout start again with the full time.
Absolute timeouts are exact. Any other call that only the kernel could resume ends with EINTR.
"""

from __future__ import annotations

from collections.abc import Callable

from ckpt.errors import HostMismatch, KernelError
from ckpt.kernel import ptrace_requests as ptrace
from ckpt.kernel import uapi
from ckpt.kernel import uapi_state as us
from ckpt.records.state import Registers, SigAction
from ckpt.records.support import Support
from ckpt.state.rebuild import rebuilding
from ckpt.trace.sigframe import ORIG_RAX, R10, RAX, RDI, RDX, RIP, RSI, pack, unpack

SUPPORT = Support(
    "registers",
    "registers",
    "general, x87 to AVX-512 and AMX, TLS; interrupted calls restart as the kernel would",
    refused="",
    lost="how much of a relative nanosleep, poll or futex wait had passed",
)

_M64 = (1 << 64) - 1
_EINTR = 4
_REENTRANT = frozenset({uapi.SYS_poll, uapi.SYS_nanosleep, uapi.SYS_futex, uapi.SYS_clock_nanosleep})
_MOV_EAX, _SYSCALL = 0xB8, b"\x0f\x05"
_CALL_SITE = 7  # mov $nr,%eax; syscall

ReadMemory = Callable[[int, int], bytes]


def collect_registers(tid: int) -> Registers:
    """As they stand: to be called before any remote syscall in the thread."""
    return Registers(gpr=ptrace.getregset(tid, uapi.NT_PRSTATUS), xstate=ptrace.getregset(tid, uapi.NT_X86_XSTATE))


def settle_registers(registers: Registers, rseq_address: int, read: ReadMemory) -> Registers:
    """Registers that mean the same in another task: no rseq critical section, no restart_syscall.

    `read` reads the thread's memory; nothing is changed in it.
    """
    gpr = registers.gpr
    if rseq_address:
        gpr = abort_critical_section(gpr, _critical_section(rseq_address, read))
    r = unpack(gpr)
    if r[ORIG_RAX] == uapi.SYS_restart_syscall and _M64 + 1 - r[RAX] == us.ERESTART_RESTARTBLOCK:
        try:
            site = read(r[RIP] - _CALL_SITE, _CALL_SITE)
        except KernelError:
            site = b""
        gpr = name_restarted_call(gpr, site)
    return Registers(gpr=gpr, xstate=registers.xstate)


def _critical_section(rseq_address: int, read: ReadMemory) -> bytes:
    """The struct rseq_cs of the thread, empty when it has none."""
    try:
        pointer = int.from_bytes(read(rseq_address + us.RSEQ_CS_OFFSET, 8), "little")
        return read(pointer, us.rseq_cs.size) if pointer else b""
    except KernelError:
        return b""  # the kernel would end the task at its next look; not ours to judge


def abort_critical_section(gpr: bytes, section: bytes) -> bytes:
    """With rip inside the rseq critical section, go to its abort handler, as after any preemption."""
    if not section:
        return gpr
    _version, _flags, start, length, abort = us.rseq_cs.unpack(section)
    r = unpack(gpr)
    if not start <= r[RIP] < start + length:
        return gpr
    r[RIP] = abort
    r[ORIG_RAX] = _M64
    return pack(r)


def name_restarted_call(gpr: bytes, site: bytes) -> bytes:
    """Replace restart_syscall by the call it stands for, read from the code at the call's site.

    A thread that was frozen once before in a timed wait sits in restart_syscall, which means nothing in a new task.
    """
    if len(site) != _CALL_SITE or site[0] != _MOV_EAX or site[5:] != _SYSCALL:
        return gpr
    nr = int.from_bytes(site[1:5], "little")
    if nr not in _REENTRANT:
        return gpr
    r = unpack(gpr)
    r[ORIG_RAX] = nr
    return pack(r)


def restart_registers(gpr: bytes, interrupted_by: SigAction | None = None) -> bytes:
    """Registers with which a thread repeats (or ends) the call in which it was interrupted; pure.

    `interrupted_by`: the action of a caught signal that will be delivered at once, if any; some calls then end with
    EINTR rather than being repeated, as signal(7) says.
    """
    r = unpack(gpr)
    error = _M64 + 1 - r[RAX]
    if r[ORIG_RAX] <= _M64 >> 1:
        if error == us.ERESTARTNOINTR:
            _repeat(r)
        elif error == us.ERESTARTSYS:
            if interrupted_by is not None and not interrupted_by.flags & us.SA_RESTART:
                r[RAX] = _M64 + 1 - _EINTR
            else:
                _repeat(r)
        elif error == us.ERESTARTNOHAND:
            if interrupted_by is not None:
                r[RAX] = _M64 + 1 - _EINTR
            else:
                _repeat(r)
        elif error == us.ERESTART_RESTARTBLOCK:
            if interrupted_by is not None or r[ORIG_RAX] not in _REENTRANT:
                r[RAX] = _M64 + 1 - _EINTR
            else:
                _with_what_is_left(r)
                _repeat(r)
    r[ORIG_RAX] = _M64
    return pack(r)


def _repeat(r: list[int]) -> None:
    r[RIP] = (r[RIP] - 2) & _M64
    r[RAX] = r[ORIG_RAX]


def _with_what_is_left(r: list[int]) -> None:
    """The kernel wrote the rest of an interrupted sleep to the second timespec, where the caller gave one."""
    if r[ORIG_RAX] == uapi.SYS_nanosleep and r[RSI]:
        r[RDI] = r[RSI]
    elif r[ORIG_RAX] == uapi.SYS_clock_nanosleep and r[R10]:
        r[RDX] = r[R10]


def restore_registers(tid: int, record: Registers, interrupted_by: SigAction | None = None) -> None:
    """The last act on a thread: nothing may run in it afterwards but the task itself."""
    with rebuilding(tid, "registers"):
        try:
            ptrace.setregset(tid, uapi.NT_X86_XSTATE, record.xstate)
        except KernelError as error:
            size = len(ptrace.getregset(tid, uapi.NT_X86_XSTATE))
            raise HostMismatch(
                f"task {tid}: this CPU cannot hold the thread's extended registers "
                f"({len(record.xstate)} bytes in the image, {size} here): {error.message}",
                hint="restore on a host whose CPU has the same features (/proc/cpuinfo flags)",
            ) from error
        ptrace.setregset(tid, uapi.NT_PRSTATUS, restart_registers(record.gpr, interrupted_by))
