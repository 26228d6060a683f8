"""Descriptors of other tasks: pidfds, stolen descriptors, kcmp."""

from __future__ import annotations

import ctypes
import errno
import os
import resource

from ckpt.errors import KernelError
from ckpt.kernel import uapi
from ckpt.kernel.libc import kernel_error, syscall
from ckpt.kernel.standins import entry

# Asked several times for each descriptor of a frozen tree: faster without the conversions of `syscall`.
_kcmp = ctypes.CDLL(None, use_errno=True).syscall
_kcmp.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong]
_kcmp.restype = ctypes.c_long


def pidfd_open(pid: int) -> int:
    """A pidfd of the process."""
    return syscall(f"pidfd_open({pid})", uapi.SYS_pidfd_open, pid, 0)


def pidfd_of_holder(pid: int) -> int:
    """A pidfd through which the descriptors of a process, or those that a thread has of its own, can be taken.

    Of a living thread when the first has ended. A thread can be named so since Linux 6.9 (64bef697d33b).
    """
    holder = entry(pid)
    if holder == pid:
        try:
            return pidfd_open(pid)
        except KernelError as error:
            if error.errno not in (errno.EINVAL, errno.ENOENT):  # a thread that is no process's first
                raise
    return syscall(f"pidfd_open({holder})", uapi.SYS_pidfd_open, holder, uapi.PIDFD_THREAD)


def steal_descriptor(pid: int, fd: int) -> int:
    """A close-on-exec descriptor in this process for the description behind `fd` of `pid` (pidfd_getfd)."""
    pidfd = pidfd_of_holder(pid)
    try:
        return pidfd_getfd(pidfd, fd)
    finally:
        os.close(pidfd)


def pidfd_getfd(pidfd: int, fd: int) -> int:
    """`steal_descriptor` through a pidfd at hand."""
    return syscall(f"pidfd_getfd({fd})", uapi.SYS_pidfd_getfd, pidfd, fd, 0)


def kcmp(pid1: int, pid2: int, what: int, index1: int = 0, index2: int = 0) -> int:
    """kcmp(2): 0 when equal, 1 and 2 for an order of the kernel's own, 3 for unequal without an order."""
    result = int(_kcmp(uapi.SYS_kcmp, entry(pid1), entry(pid2), what, index1, index2))
    if result < 0:
        raise kernel_error("kcmp", ctypes.get_errno())
    return result


class Sharers:
    """One user of each object of a kind (`what`: KCMP_VM, KCMP_FILES, KCMP_FS or KCMP_SIGHAND), in kcmp's order."""

    def __init__(self, what: int) -> None:
        self._what = what
        self._known: list[int] = []

    def find(self, one: int) -> int | None:
        """Who of those that were seen before uses the same object as process or thread `one`."""
        return self._search(one)[0]

    def stands_for(self, one: int) -> int:
        """The same, `one` itself if it is the first."""
        found, place = self._search(one)
        if found is None:
            self._known.insert(place, one)
            return one
        return found

    def _search(self, one: int) -> tuple[int | None, int]:
        low, high = 0, len(self._known)
        while low < high:
            middle = (low + high) // 2
            order = kcmp(one, self._known[middle], self._what)
            if order == 0:
                return self._known[middle], middle
            low, high = (low, middle) if order == 1 else (middle + 1, high)
        return None, low


def open_magic(path: str, flags: int) -> int:
    """Open what a magic link of /proc leads to: a new description of the same file."""
    try:
        return os.open(path, flags | os.O_CLOEXEC)
    except OSError as error:
        raise kernel_error(f"opening {path}", error.errno or 0) from None


def open_unnoticed(path: str) -> int:
    """`open_magic` for reading without a change of the access time, which only the owner and root may ask for."""
    try:
        return open_magic(path, os.O_RDONLY | os.O_NOATIME)
    except KernelError:
        return open_magic(path, os.O_RDONLY)


def raise_descriptor_limit() -> int:
    """Let this process open as many files as its hard limit allows; gives that limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
