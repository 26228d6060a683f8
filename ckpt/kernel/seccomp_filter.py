"""What a thread's seccomp filters would say to a call: they are run here as the kernel runs them (classic BPF)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from ckpt.errors import KernelError
from ckpt.kernel import ptrace_requests as ptrace
from ckpt.kernel import uapi_state as us

_M32 = (1 << 32) - 1
_DATA = struct.Struct("<IIQ6Q")  # struct seccomp_data: nr, arch, instruction_pointer, args
_LET_THROUGH = (us.SECCOMP_RET_ALLOW, us.SECCOMP_RET_LOG)
_HARMLESS = (us.SECCOMP_RET_ALLOW, us.SECCOMP_RET_LOG, us.SECCOMP_RET_ERRNO, us.SECCOMP_RET_TRACE)


def permits(tid: int, status: dict[str, str], nr: int, args: Sequence[int]) -> bool:
    """Whether the thread would survive the call, when nobody traces it; no if its filters cannot be read."""
    if int(status.get("Seccomp", "0")) == us.SECCOMP_MODE_STRICT:
        return False
    try:
        programs = [ptrace.seccomp_get_filter(tid, at) for at in range(int(status.get("Seccomp_filters", "0")))]
    except KernelError:
        return False
    return all(action(program, nr, args) & us.SECCOMP_RET_ACTION_FULL in _HARMLESS for program in programs)


def turned_away(tid: int, nr: int, args: Sequence[int]) -> bool:
    """Whether a filter of the thread, which ckpt traces, stands against the call; no if they cannot be read."""
    if not ptrace.has_filters(tid):
        return False
    at = 0
    while True:
        try:
            program = ptrace.seccomp_get_filter(tid, at)
        except KernelError:  # ENOENT: that was the last
            return False
        if action(program, nr, args) & us.SECCOMP_RET_ACTION_FULL not in _LET_THROUGH:
            return True
        at += 1


def action(program: bytes, nr: int, args: Sequence[int]) -> int:
    """SECCOMP_RET_* of one filter; that of a killed thread for an instruction which no filter may have."""
    numbers = [arg & (1 << 64) - 1 for arg in args]
    data = _DATA.pack(nr, us.AUDIT_ARCH_X86_64, 0, *numbers, *[0] * (6 - len(numbers)))
    code: list[tuple[int, int, int, int]] = list(us.sock_filter.iter_unpack(program))
    a = x = at = 0
    memory = [0] * 16
    while at < len(code):
        op, jt, jf, k = code[at]
        at += 1
        match op:
            case 0x06:
                return k
            case 0x16:
                return a
            case 0x20:
                a = int.from_bytes(data[k : k + 4], "little")
            case 0x00 | 0x60 | 0x80:
                a = k if op == 0x00 else memory[k] if op == 0x60 else len(data)
            case 0x01 | 0x61 | 0x81:
                x = k if op == 0x01 else memory[k] if op == 0x61 else len(data)
            case 0x02 | 0x03:
                memory[k] = a if op == 0x02 else x
            case 0x05:
                at += k
            case 0x07:
                x = a
            case 0x87:
                a = x
            case _ if op & 7 == 5:
                b = x if op & 8 else k
                holds = {0x10: a == b, 0x20: a > b, 0x30: a >= b, 0x40: a & b != 0}.get(op & 0xF0)
                if holds is None:
                    return us.SECCOMP_RET_KILL_THREAD
                at += jt if holds else jf
            case _ if op & 7 == 4:
                a = _computed(op & 0xF0, a, x if op & 8 else k)
            case _:
                return us.SECCOMP_RET_KILL_THREAD
    return us.SECCOMP_RET_KILL_THREAD


def _computed(op: int, a: int, b: int) -> int:
    match op:
        case 0x00:
            a += b
        case 0x10:
            a -= b
        case 0x20:
            a *= b
        case 0x30:
            a = a // b if b else 0
        case 0x40:
            a |= b
        case 0x50:
            a &= b
        case 0x60:
            a = a << b if b < 32 else 0
        case 0x70:
            a = a >> b if b < 32 else 0
        case 0x80:
            a = -a
        case 0xA0:
            a ^= b
    return a & _M32
