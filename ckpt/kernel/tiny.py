"""Static programs of a few hundred bytes, run from memory without a file or an interpreter."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import struct
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from ckpt.kernel import uapi
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


def spawn_beside(fd: int, name: str, copies: Iterable[tuple[int, int]], owner: tuple[int, int] | None = None) -> int:
    """`spawn`, as a child of this process's own parent; `copies` are descriptors and the numbers they get there,
    `owner` the uid and gid to become where that is allowed; before the program begins, for in a user namespace whose
    root is another one only execve takes away the capabilities.

    Nobody in a pid namespace adopts what was born to a parent outside of it.
    """
    # PyDLL: the child, which is alone with its thread, must come back with the interpreter's lock.
    flags = uapi.CLONE_PARENT | uapi.CLONE_VFORK | signal.SIGCHLD
    pid: int = ctypes.PyDLL(None, use_errno=True).syscall(uapi.SYS_clone, ctypes.c_ulong(flags), 0, 0, 0, 0)
    if pid:
        if pid < 0:
            raise kernel_error(f"starting {name}", ctypes.get_errno())
        return pid
    try:
        os.setsid()
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        for number in _SIGNALS:
            if signal.getsignal(number) == signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDWR)
        for source, number in (*((null, number) for number in range(3)), *copies):
            os.dup2(source, number)
        if owner is not None:
            _become(*owner)
        os.execve(fd, [name], {})
    finally:
        os._exit(127)


def _become(uid: int, gid: int) -> None:
    with suppress(OSError):
        os.setgroups([])
    with suppress(OSError):
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)


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
