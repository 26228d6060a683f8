"""The ptrace requests that ckpt uses. Each acts on a stopped tracee (seize and interrupt: on a running one).

All of them raise KernelError with the errno; ESRCH means that the thread is gone or not stopped.
"""

from __future__ import annotations

import ctypes
import struct

from ptrace.binding.func import ptrace
from ptrace.error import PtraceError

from ckpt.errors import KernelError
from ckpt.kernel import uapi
from ckpt.kernel.libc import kernel_error
from ckpt.kernel.uapi_state import SECCOMP_METADATA, SIGINFO_SIZE, ptrace_rseq_configuration, user_desc

_XSTATE_ROOM = 16384  # the area takes 11 KiB with AMX; the kernel gives what the CPU has
_GENERAL_ROOM = 1024
_QUEUE_STEP = 32

_asked = ctypes.CDLL(None).ptrace
_asked.restype, _asked.argtypes = ctypes.c_long, [ctypes.c_long] * 4


def _ptrace(name: str, request: int, tid: int, arg1: int = 0, arg2: int = 0) -> int:
    try:
        return int(ptrace(request, tid, arg1, arg2))
    except PtraceError as error:
        raise kernel_error(f"{name} of thread {tid}", error.errno or 0) from None


def seize(tid: int, options: int = 0) -> None:
    """Become the tracer without stopping the thread."""
    _ptrace("PTRACE_SEIZE", uapi.PTRACE_SEIZE, tid, 0, options)


def interrupt(tid: int) -> None:
    """Ask a seized thread to stop; the stop itself is reported by waitpid."""
    _ptrace("PTRACE_INTERRUPT", uapi.PTRACE_INTERRUPT, tid)


def cont(tid: int, sig: int = 0) -> None:
    """Let the thread run on, delivering `sig`."""
    _ptrace("PTRACE_CONT", uapi.PTRACE_CONT, tid, 0, sig)


def syscall_step(tid: int, sig: int = 0) -> None:
    """Let the thread run to its next system call's entry or exit."""
    _ptrace("PTRACE_SYSCALL", uapi.PTRACE_SYSCALL, tid, 0, sig)


def detach(tid: int, sig: int = 0) -> None:
    """Stop tracing; the thread runs on, delivering `sig`."""
    _ptrace("PTRACE_DETACH", uapi.PTRACE_DETACH, tid, 0, sig)


def setoptions(tid: int, options: int) -> None:
    """Replace the PTRACE_O_* options."""
    _ptrace("PTRACE_SETOPTIONS", uapi.PTRACE_SETOPTIONS, tid, 0, options)


def geteventmsg(tid: int) -> int:
    """The message of the last PTRACE_EVENT stop: a new tid or an exit status."""
    message = ctypes.c_ulong()
    _ptrace("PTRACE_GETEVENTMSG", uapi.PTRACE_GETEVENTMSG, tid, 0, ctypes.addressof(message))
    return message.value


def getsiginfo(tid: int) -> bytes:
    """The siginfo_t (128 bytes) of the signal that caused this stop."""
    buffer = ctypes.create_string_buffer(SIGINFO_SIZE)
    _ptrace("PTRACE_GETSIGINFO", uapi.PTRACE_GETSIGINFO, tid, 0, ctypes.addressof(buffer))
    return buffer.raw


def getregset(tid: int, kind: int) -> bytes:
    """A register set, as long as the kernel makes it: NT_PRSTATUS 216 bytes, NT_X86_XSTATE by CPU."""
    room = _GENERAL_ROOM if kind == uapi.NT_PRSTATUS else _XSTATE_ROOM
    buffer = ctypes.create_string_buffer(room)
    iovec = (ctypes.c_uint64 * 2)(ctypes.addressof(buffer), room)
    _ptrace("PTRACE_GETREGSET", uapi.PTRACE_GETREGSET, tid, kind, ctypes.addressof(iovec))
    return ctypes.string_at(buffer, iovec[1])


def setregset(tid: int, kind: int, data: bytes) -> None:
    """Write a register set; NT_X86_XSTATE must have this CPU's size or EFAULT/EINVAL comes back."""
    buffer = ctypes.create_string_buffer(data, len(data))
    iovec = (ctypes.c_uint64 * 2)(ctypes.addressof(buffer), len(data))
    _ptrace("PTRACE_SETREGSET", uapi.PTRACE_SETREGSET, tid, kind, ctypes.addressof(iovec))


def getsigmask(tid: int) -> int:
    """The blocked signals: bit n-1 for signal n."""
    mask = ctypes.c_uint64()
    _ptrace("PTRACE_GETSIGMASK", uapi.PTRACE_GETSIGMASK, tid, 8, ctypes.addressof(mask))
    return mask.value


def setsigmask(tid: int, mask: int) -> None:
    """Set the blocked signals; KILL and STOP are left out by the kernel."""
    value = ctypes.c_uint64(mask)
    _ptrace("PTRACE_SETSIGMASK", uapi.PTRACE_SETSIGMASK, tid, 8, ctypes.addressof(value))


def peeksiginfo(tid: int, *, shared: bool, most: int = 1 << 31) -> list[bytes]:
    """The thread's own or the process-wide queue of pending signals, oldest first; siginfo_t of 128 bytes.

    Takes time by the square of their number; ends early when `most` are found.
    """
    found: list[bytes] = []
    buffer = ctypes.create_string_buffer(SIGINFO_SIZE * _QUEUE_STEP)
    flags = uapi.PTRACE_PEEKSIGINFO_SHARED if shared else 0
    while True:
        args = ctypes.create_string_buffer(struct.pack("<QIi", len(found), flags, _QUEUE_STEP), 16)
        count = _ptrace(
            "PTRACE_PEEKSIGINFO",
            uapi.PTRACE_PEEKSIGINFO,
            tid,
            ctypes.addressof(args),
            ctypes.addressof(buffer),
        )
        raw = buffer.raw
        found += [raw[i * SIGINFO_SIZE : (i + 1) * SIGINFO_SIZE] for i in range(count)]
        if count < _QUEUE_STEP or len(found) >= most:
            return found


def get_rseq_configuration(tid: int) -> tuple[int, int, int]:
    """(address, size, signature) of the registered rseq area; address 0 when there is none."""
    size = ptrace_rseq_configuration.size
    buffer = ctypes.create_string_buffer(size)
    _ptrace(
        "PTRACE_GET_RSEQ_CONFIGURATION",
        uapi.PTRACE_GET_RSEQ_CONFIGURATION,
        tid,
        size,
        ctypes.addressof(buffer),
    )
    address, length, signature, _flags = ptrace_rseq_configuration.unpack(buffer.raw)
    return address, length, signature


def get_debug_registers(tid: int) -> tuple[int, ...]:
    """DR0 to DR3, DR6 and DR7; empty when none of them is in use."""
    if not _peek_user(tid, 7):
        return ()
    return tuple(_peek_user(tid, number) for number in _DEBUG_REGISTERS)


def set_debug_registers(tid: int, values: tuple[int, ...]) -> None:
    """`get_debug_registers`'s counterpart."""
    for number, value in zip(_DEBUG_REGISTERS, values, strict=True):
        _ptrace("PTRACE_POKEUSER", uapi.PTRACE_POKEUSER, tid, uapi.U_DEBUGREG + 8 * number, value)


def _peek_user(tid: int, number: int) -> int:
    name, request = "PTRACE_PEEKUSER", uapi.PTRACE_PEEKUSER
    return _ptrace(name, request, tid, uapi.U_DEBUGREG + 8 * number) & ((1 << 64) - 1)


_DEBUG_REGISTERS = (0, 1, 2, 3, 6, 7)
_SUD = struct.Struct("<4Q")  # struct ptrace_sud_config: mode, selector, offset, len


def get_thread_area(tid: int, number: int) -> bytes:
    """struct user_desc of one of the segments in the GDT that a thread may have (GDT_TLS)."""
    buffer = ctypes.create_string_buffer(user_desc.size)
    _ptrace("PTRACE_GET_THREAD_AREA", uapi.PTRACE_GET_THREAD_AREA, tid, number, ctypes.addressof(buffer))
    return buffer.raw


def set_thread_area(tid: int, number: int, description: bytes) -> None:
    """`get_thread_area`'s counterpart."""
    buffer = ctypes.create_string_buffer(description, len(description))
    _ptrace("PTRACE_SET_THREAD_AREA", uapi.PTRACE_SET_THREAD_AREA, tid, number, ctypes.addressof(buffer))


def get_user_dispatch(tid: int) -> tuple[int, int, int, int] | None:
    """What PR_SET_SYSCALL_USER_DISPATCH set, mode first; None when it is off, or before Linux 6.4."""
    buffer = ctypes.create_string_buffer(_SUD.size)
    name, request = "PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG", uapi.PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG
    try:
        _ptrace(name, request, tid, _SUD.size, ctypes.addressof(buffer))
    except KernelError:
        return None
    mode, selector, offset, length = _SUD.unpack(buffer.raw)
    return (mode, selector, offset, length) if mode else None


def set_user_dispatch(tid: int, config: tuple[int, ...]) -> None:
    """`get_user_dispatch`'s counterpart."""
    buffer = ctypes.create_string_buffer(_SUD.pack(*config), _SUD.size)
    name, request = "PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG", uapi.PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG
    _ptrace(name, request, tid, _SUD.size, ctypes.addressof(buffer))


def has_filters(tid: int) -> bool:
    """Whether `seccomp_get_filter` gives anything; asked of every thread in a freeze, and so without an exception."""
    return bool(_asked(uapi.PTRACE_SECCOMP_GET_FILTER, tid, 0, 0) > 0)


def seccomp_get_filter(tid: int, index: int) -> bytes:
    """The sock_filter array of filter `index`, the oldest being 0; ENOENT past the last one.

    Needs CAP_SYS_ADMIN in the initial user namespace, and a tracer that is under no seccomp itself.
    """
    name = "PTRACE_SECCOMP_GET_FILTER"
    count = _ptrace(name, uapi.PTRACE_SECCOMP_GET_FILTER, tid, index, 0)
    buffer = ctypes.create_string_buffer(count * 8)
    _ptrace(name, uapi.PTRACE_SECCOMP_GET_FILTER, tid, index, ctypes.addressof(buffer))
    return buffer.raw


def seccomp_get_metadata(tid: int, index: int) -> int:
    """SECCOMP_FILTER_FLAG_* of filter `index` (only LOG is reported)."""
    buffer = ctypes.create_string_buffer(SECCOMP_METADATA.pack(index, 0), SECCOMP_METADATA.size)
    _ptrace(
        "PTRACE_SECCOMP_GET_METADATA",
        uapi.PTRACE_SECCOMP_GET_METADATA,
        tid,
        SECCOMP_METADATA.size,
        ctypes.addressof(buffer),
    )
    return int(SECCOMP_METADATA.unpack(buffer.raw)[1])
