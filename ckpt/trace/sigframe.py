"""The signal frame that puts a task back when ckpt dies in a remote syscall: what rt_sigreturn reads, x86_64.

Source: arch/x86/include/uapi/asm/{sigcontext,ucontext}.h, arch/x86/kernel/signal_64.c.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence

import numpy as np

FP_XSTATE_MAGIC1 = 0x46505853
FP_XSTATE_MAGIC2 = 0x46505845
UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS = 1, 2, 4
XFEATURE_MASK_XTILE = 0x60000
XTILE_OFFSET = 2752  # of XTILECFG in the standard format; everything below is in every task's user_size
MARK, MARK_OF_WAIT = (struct.pack("<QQiiQ", 0, 0, flags, 0, 0) for flags in (0x7FFFFFFF, 0x7FFFFFFE))
"""What follows the flags in the struct ucontext of a frame, and of no other: no link, and no alternate stack at all.
The second in one that stays after a restore, for a thread that waits."""
RED_ZONE = 128
_SIGINFO = 128
SIZE = 8 + 40 + 256 + 8 + _SIGINFO
"""Of a frame from the restorer on, in bytes; the FP state stands above it."""
STRIDE = 320
TF = 0x100
"""The trap flag in EFLAGS: a SIGTRAP after each instruction."""

# user_regs_struct, arch/x86/include/asm/user_64.h: the index of each register in NT_PRSTATUS
(
    R15,
    R14,
    R13,
    R12,
    RBP,
    RBX,
    R11,
    R10,
    R9,
    R8,
    RAX,
    RCX,
    RDX,
    RSI,
    RDI,
    ORIG_RAX,
    RIP,
    CS,
    EFLAGS,
    RSP,
    SS,
) = range(21)
_PLACES = (R8, R9, R10, R11, R12, R13, R14, R15, RDI, RSI, RBP, RBX, RDX, RAX, RCX, RSP)
"""What struct sigcontext begins with."""
_CONTEXT = 7
"""Words before it in a frame at a multiple of 64: a gap, the restorer, five of the struct ucontext."""
ARGUMENTS = (RDI, RSI, RDX, R10, R8, R9)
"""Where a system call finds its arguments."""

ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND, ERESTART_RESTARTBLOCK = 512, 513, 514, 516
_M64 = (1 << 64) - 1
_WORDS = struct.Struct("<27Q")


def is_foreign(gpr: bytes) -> bool:
    """Whether the NT_PRSTATUS is that of 32-bit code, which is never read or changed: such a task is refused."""
    return len(gpr) != _WORDS.size


def unpack(gpr: bytes) -> list[int]:
    """NT_PRSTATUS as 27 integers."""
    return list(_WORDS.unpack(gpr))


def pack(registers: list[int]) -> bytes:
    """27 integers as NT_PRSTATUS."""
    return _WORDS.pack(*registers)


def after_interruption(registers: list[int]) -> tuple[int, int]:
    """(rip, rax) with which an interrupted call goes on when no kernel is there to restart it."""
    rip, rax = registers[RIP], registers[RAX]
    error = (1 << 64) - rax
    if registers[ORIG_RAX] <= _M64 >> 1 and error in (
        ERESTARTSYS,
        ERESTARTNOINTR,
        ERESTARTNOHAND,
        ERESTART_RESTARTBLOCK,
    ):
        if error == ERESTART_RESTARTBLOCK:
            return rip, (1 << 64) - errno.EINTR
        return rip - 2, registers[ORIG_RAX]
    return rip, rax


def resumes(registers: list[int]) -> bool:
    """Whether the kernel is to resume an interrupted call from its restart block."""
    return registers[ORIG_RAX] <= _M64 >> 1 and (1 << 64) - registers[RAX] == ERESTART_RESTARTBLOCK


def xstate_for_frame(xstate: bytes) -> bytes:
    """The NT_X86_XSTATE area with the magic that rt_sigreturn asks for."""
    features = struct.unpack_from("<Q", xstate, 464)[0]
    size = len(xstate)
    if features & XFEATURE_MASK_XTILE and size > XTILE_OFFSET:
        # A task that never asked for AMX has a smaller area, and the kernel refuses one that is too large.
        in_use = struct.unpack_from("<Q", xstate, 512)[0]
        if not in_use & XFEATURE_MASK_XTILE:
            size = 2696
            features &= ~XFEATURE_MASK_XTILE
    area = bytearray(xstate[:size])
    struct.pack_into("<IIQI28x", area, 464, FP_XSTATE_MAGIC1, size + 4, features, size)
    return bytes(area) + struct.pack("<I", FP_XSTATE_MAGIC2)


def build(
    address: int,
    restorer: int,
    registers: list[int],
    xstate: bytes,
    sigmask: int,
    *,
    fpstate_at: int = 0,
    mark: bytes = MARK,
) -> tuple[int, bytes]:
    """(stack pointer, bytes): a frame to be written at `address` upwards; a `ret` at that pointer enters `restorer`.

    Nothing of it is below that pointer, where the frame of a handler would stand that ran before the `ret`.
    The alternate stack in it (`mark`) is deliberately not valid, so that the kernel leaves the task's own as it is.
    Without `xstate` the FP registers become what is at `fpstate_at`, else what they are in a new program.
    """
    frame = -(-address // 16) * 16 + 8
    fpstate = -(-(frame + SIZE) // 64) * 64
    rip, rax = after_interruption(registers)
    r = registers
    context = struct.pack(
        "<18Q4H5Q64x",
        r[R8], r[R9], r[R10], r[R11], r[R12], r[R13], r[R14], r[R15],
        r[RDI], r[RSI], r[RBP], r[RBX], r[RDX], rax, r[RCX], r[RSP], rip, r[EFLAGS],
        r[CS] & 0xFFFF, 0, 0, r[SS] & 0xFFFF,
        0, 0, 0, 0, fpstate if xstate else fpstate_at,
    )  # fmt: skip
    flags = (UC_FP_XSTATE if xstate or fpstate_at else 0) | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS
    ucontext = struct.pack("<Q", flags) + mark + context + struct.pack("<Q", sigmask)
    whole = bytes(frame - address) + struct.pack("<Q", restorer) + ucontext + bytes(_SIGINFO)
    if not xstate:
        return frame, whole
    return frame, whole + bytes(fpstate - frame - SIZE) + xstate_for_frame(xstate)


def call(
    address: int,
    restorer: int,
    at_syscall: list[int],
    nr: int,
    args: Sequence[int],
    *,
    fpstate_at: int = 0,
    sigmask: int = _M64,
) -> tuple[int, bytes]:
    """A frame that leads to a system call; `at_syscall`: registers at a `syscall; ret`, with the stack for after it."""
    registers = list(at_syscall)
    for index, value in zip((RAX, *ARGUMENTS), (nr, *args), strict=False):
        registers[index] = value & _M64
    registers[ORIG_RAX] = _M64
    return build(address, restorer, registers, b"", sigmask, fpstate_at=fpstate_at)


def chain(
    address: int, restorer: int, at_syscall: list[int], calls: Sequence[Sequence[int]], fpstate_at: int, sigmask: int
) -> tuple[int, bytes]:
    """Frames of STRIDE bytes at `address`, a multiple of 64: each leads to one of `calls`, (nr, argument…), and from
    there to the next, the last to the stack of `at_syscall`. `sigmask` is blocked during the last, all before it."""
    pointer, frame = call(address, restorer, at_syscall, 0, (), fpstate_at=fpstate_at)
    # All are alike but for the call and where it leads; what is behind a frame, the siginfo, nobody reads.
    frames = np.tile(np.frombuffer(frame[:STRIDE], "<u8"), (len(calls), 1))
    arguments = [[value & _M64 for value in (*one, *(0,) * (7 - len(one)))] for one in calls]
    frames[:, [_CONTEXT + _PLACES.index(register) for register in (RAX, *ARGUMENTS)]] = np.array(arguments, np.uint64)
    frames[:-1, _CONTEXT + _PLACES.index(RSP)] = address + np.arange(1, len(calls), dtype=np.uint64) * STRIDE + 8
    frames[-1, STRIDE // 8 - 1] = sigmask
    return pointer, frames.tobytes()


MAX_SIZE = 16384
"""More than any frame takes (AMX included)."""
