"""userfaultfd as a dirty log: write-protect tracking without a handler (WP_ASYNC)."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os

from ckpt.errors import KernelError
from ckpt.kernel import procfs, uapi
from ckpt.kernel import uapi_pagemap as up
from ckpt.kernel.libc import kernel_error, syscall
from ckpt.kernel.standins import entry

FEATURES = up.UFFD_FEATURE_WP_ASYNC | up.UFFD_FEATURE_WP_UNPOPULATED
# Without privileges only faults from user mode may be handled; with WP_ASYNC none are handled at all, and the
# kernel's own writes (read(2), process_vm_writev) are seen all the same.
OPEN_FLAGS = os.O_CLOEXEC | os.O_NONBLOCK | up.UFFD_USER_MODE_ONLY


def _ioctl(what: str, fd: int, request: int, argument: ctypes.Structure) -> None:
    try:
        fcntl.ioctl(fd, request, argument)
    except OSError as error:
        raise kernel_error(what, error.errno or 0) from None


def open_own() -> int:
    """A userfaultfd of ckpt's own address space; for probing."""
    return syscall("userfaultfd", uapi.SYS_userfaultfd, OPEN_FLAGS)


def enable(fd: int) -> None:
    """UFFDIO_API with asynchronous write-protection; may be called on a stolen descriptor."""
    api = up.uffdio_api(api=up.UFFD_API, features=FEATURES)
    _ioctl("UFFDIO_API with WP_ASYNC", fd, up.UFFDIO_API, api)


def register(fd: int, start: int, end: int) -> None:
    """Register the mappings in [start, end) for write-protection; a no-op for those that are."""
    argument = up.uffdio_register(start=start, len=end - start, mode=up.UFFDIO_REGISTER_MODE_WP)
    _ioctl(f"UFFDIO_REGISTER of {start:#x}-{end:#x}", fd, up.UFFDIO_REGISTER, argument)


def unprotect(fd: int, start: int, end: int) -> None:
    """Take the write-protection of registered memory away."""
    argument = up.uffdio_writeprotect(start=start, len=end - start, mode=0)
    _ioctl(f"UFFDIO_WRITEPROTECT of {start:#x}-{end:#x}", fd, up.UFFDIO_WRITEPROTECT, argument)


def is_alive(fd: int) -> bool:
    """Whether the address space of `fd` still exists; exec and exit end it."""
    # UFFDIO_REGISTER would say ENOMEM of a dead one. Nothing stands on the last page as a rule; if something
    # does, the page counts as written.
    last = up.uffdio_writeprotect(start=uapi.TASK_SIZE_MAX - uapi.PAGE_SIZE, len=uapi.PAGE_SIZE, mode=0)
    try:
        fcntl.ioctl(fd, up.UFFDIO_WRITEPROTECT, last)
    except OSError as error:
        return error.errno != errno.ESRCH
    return True


def is_userfaultfd(pid: int, fd: int) -> bool:
    """Whether descriptor `fd` of `pid` is a userfaultfd."""
    try:
        return procfs.link(f"/proc/{entry(pid)}/fd/{fd}") == up.UFFD_LINK
    except KernelError:
        return False
