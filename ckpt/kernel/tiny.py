"""Static programs of a few hundred bytes, run from memory without a file or an interpreter."""

from __future__ import annotations

import errno
import os
import signal
import struct
from typing import Any

from ckpt.kernel.libc import kernel_error

_MFD_EXEC = 0x10  # include/uapi/linux/memfd.h; unknown before Linux 6.3
_BASE = 0x400000
_HEADERS = 64 + 56
# Made once: the enumeration costs a millisecond, and the keeper is started in the freeze.
_SIGNALS = [int(number) for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}]


def elf(code: bytes) -> bytes:
    """A static x86_64 ELF whose entry is the first byte of `code`; one read-only executable segment."""
    size = _HEADERS + len(code)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    entry = _BASE + _HEADERS
    header = ident + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 4096)  # PT_LOAD, R + X
    return header + load + code


def memfd(name: str, program: bytes) -> int:
    """A memfd that holds the program and can be executed."""
    try:
        try:
            fd = os.memfd_create(name, os.MFD_CLOEXEC | _MFD_EXEC)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            fd = os.memfd_create(name, os.MFD_CLOEXEC)
        os.write(fd, program)
    except OSError as error:
        raise kernel_error(f"memfd_create of {name}", error.errno or 0) from None
    return fd


def spawn(fd: int, name: str, actions: list[Any]) -> int:
    """Start the program in a session of its own, stdio on /dev/null, signals at their defaults; its pid."""
    null: list[Any] = [(os.POSIX_SPAWN_OPEN, number, "/dev/null", os.O_RDWR, 0) for number in range(3)]
    try:
        return os.posix_spawn(
            f"/proc/self/fd/{fd}",
            [name],
            {},
            file_actions=null + actions,
            setsid=True,
            setsigmask=[],
            setsigdef=_SIGNALS,
        )
    except OSError as error:
        raise kernel_error(f"starting {name}", error.errno or 0) from None


def start(name: str, code: bytes) -> int:
    """Start a program; its pid, which is the caller's to wait for."""
    fd = memfd(name, elf(code))
    try:
        return spawn(fd, name, [])
    finally:
        os.close(fd)


def run(name: str, code: bytes) -> int | None:
    """Run a program to its end; its exit status, None when that is unknown (SIGCHLD is ignored)."""
    pid = start(name, code)
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return None
