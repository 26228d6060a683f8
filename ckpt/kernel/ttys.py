"""Terminal ioctls on local descriptors, and making pseudoterminals of a wanted index."""

from __future__ import annotations

import ctypes
import errno
import os
import time

from ckpt.errors import KernelError
from ckpt.kernel import uapi
from ckpt.kernel import uapi_tty as t
from ckpt.kernel.libc import kernel_error, syscall


def get_bytes(fd: int, request: int, size: int) -> bytes:
    """An ioctl that fills a structure."""
    buffer = ctypes.create_string_buffer(size)
    syscall(f"ioctl({request:#x})", uapi.SYS_ioctl, fd, request, buffer)
    return buffer.raw


def set_bytes(fd: int, request: int, data: bytes) -> None:
    """An ioctl that takes a structure."""
    syscall(f"ioctl({request:#x})", uapi.SYS_ioctl, fd, request, ctypes.create_string_buffer(data, len(data)))


def get_int(fd: int, request: int) -> int:
    """An ioctl that gives an int."""
    return int.from_bytes(get_bytes(fd, request, 4), "little", signed=True)


def set_int(fd: int, request: int, value: int) -> None:
    """An ioctl that takes a pointer to an int."""
    set_bytes(fd, request, value.to_bytes(4, "little", signed=True))


def control(fd: int, request: int, value: int) -> None:
    """An ioctl whose argument is an int itself."""
    syscall(f"ioctl({request:#x})", uapi.SYS_ioctl, fd, request, value)


def fixed_modes(fd: int) -> bytes:
    """The modes that are locked (TIOCGLCKTRMIOS), as struct termios; nothing when none is."""
    fixed = get_bytes(fd, t.TIOCGLCKTRMIOS, t.TERMIOS_SIZE)
    return fixed if any(fixed) else b""


def owner(master: int, request: int) -> int:
    """TIOCGSID or TIOCGPGRP of a pseudoterminal, asked through its master; 0 when it is nobody's terminal."""
    try:
        return get_int(master, request)
    except KernelError as error:
        if error.errno in (errno.ENOTTY, errno.EIO):
            return 0
        raise


def device(fd: int) -> int | None:
    """dev_t of the terminal behind a descriptor, also for /dev/tty; None when it is hung up."""
    try:
        return get_int(fd, t.TIOCGDEV) & 0xFFFFFFFF
    except KernelError as error:
        if error.errno == errno.EIO:
            return None
        raise


def index_of(dev: int) -> int | None:
    """The index of a pseudoterminal's slave; None for every other terminal."""
    if t.UNIX98_PTY_SLAVE_MAJOR <= os.major(dev) <= t.UNIX98_PTY_SLAVE_LAST:
        return (os.major(dev) - t.UNIX98_PTY_SLAVE_MAJOR) * 256 + os.minor(dev)
    return None


def open_master(flags: int) -> tuple[int, int]:
    """A new pseudoterminal: master descriptor and index."""
    try:
        fd = os.open("/dev/ptmx", flags | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise kernel_error("opening /dev/ptmx", error.errno or 0) from error
    return fd, get_int(fd, t.TIOCGPTN)


def open_master_at(index: int, flags: int, patience: float) -> int | None:
    """The master of pseudoterminal `index`; None when that index is taken for `patience` seconds.

    A terminal that was just closed, by the end of the task that is to be restored perhaps, may need a moment to go; one
    that somebody opened meanwhile may be closed again soon.
    """
    end = time.monotonic() + patience
    while True:
        fd = _open_lowest(index, flags)
        if fd is not None or time.monotonic() >= end:
            return fd
        time.sleep(0.02)


def _open_lowest(index: int, flags: int) -> int | None:
    """The kernel gives the lowest free index."""
    others = []
    try:
        while True:
            fd, got = open_master(flags)
            if got == index:
                return fd
            others.append(fd)
            if got > index:
                return None
    finally:
        for other in others:
            os.close(other)


def open_slave(master: int, flags: int) -> int:
    """The slave of an unlocked master (TIOCGPTPEER), without becoming anyone's controlling terminal."""
    # Without O_CLOEXEC, which the kernel would keep among the flags of the description and show for ever.
    fd = syscall("ioctl(TIOCGPTPEER)", uapi.SYS_ioctl, master, t.TIOCGPTPEER, flags | os.O_NOCTTY)
    os.set_inheritable(fd, False)
    return fd
