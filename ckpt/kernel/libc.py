"""System calls that Python lacks, through syscall(2); a failed call is a KernelError with the errno."""

from __future__ import annotations

import ctypes
import errno as errno_names
import os

from ckpt.errors import KernelError, NotPermitted, Unsupported

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long


def kernel_error(what: str, errno: int, *, hint: str | None = None) -> KernelError:
    """The KernelError, NotPermitted or Unsupported that fits `errno`; `what` names the call and its object."""
    name = errno_names.errorcode.get(errno, str(errno))
    message = f"{what}: {os.strerror(errno)} ({name})"
    if errno in (errno_names.EPERM, errno_names.EACCES):
        return NotPermitted(message, errno=errno, hint=hint)
    if errno == errno_names.ENOSYS:
        return Unsupported(message, errno=errno, hint=hint)
    return KernelError(message, errno=errno, hint=hint)


def syscall(what: str, nr: int, *args: object) -> int:
    """Run system call `nr`; ints are passed as 64-bit values, ctypes pointers as they are."""
    ctypes.set_errno(0)
    converted = [ctypes.c_ulong(a & 0xFFFFFFFFFFFFFFFF) if isinstance(a, int) else a for a in args]
    result = int(_syscall(ctypes.c_long(nr), *converted))
    if result == -1:
        errno = ctypes.get_errno()
        if errno:
            raise kernel_error(what, errno)
    return result
