"""The oracle's rarer kinds of memory: what makes them, and what is done to them."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

from tests.support.oracle.orders import CONTROL, Orders
from tests.support.oracle.steps import FIXED, MAYMOVE, MREMAP_FIXED, STAGE
from tests.support.oracle.truth import PAGE

MEMFDS, FILES = 100, 110  # the descriptors of the first slots
_SHM_REMAP, _IPC_RMID, _F_ADD_SEALS, _AT_FDCWD = 0o40000, 0, 1033, -100
_SYS_PROCESS_MADVISE = 440


class _Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class Kinds(Orders):
    """Steps of a session, by their names."""

    def __init__(self) -> None:
        super().__init__()
        self.posix: list[str] = []  # names in /dev/shm, to be taken away at the end

    def _map_droppable(self, pid: int, page: int, n: int, prot: int, flags: int) -> None:
        self.call(pid, "mmap", STAGE + page * PAGE, n * PAGE, prot, flags, -1, 0)

    def _map_zero_device(self, pid: int, page: int, n: int, kind: int, prot: int) -> None:
        self._map_path(pid, "/dev/zero", page, n, kind, prot)

    def _map_path(self, pid: int, path: str, page: int, n: int, kind: int, prot: int, size: int = 0) -> None:
        """`size`: pages to give the file first."""
        fd = self.call(pid, "openat", _AT_FDCWD, CONTROL + 1024, os.O_RDWR | os.O_CREAT * bool(size), 0o600, text=path)
        if fd >= 0:
            if size:
                self.call(pid, "ftruncate", fd, size * PAGE)
            self.call(pid, "mmap", STAGE + page * PAGE, n * PAGE, prot, kind | FIXED, fd, 0)
            self.call(pid, "close", fd)

    def _map_posix(self, pid: int, page: int, n: int, kind: int, prot: int, unlinked: int) -> None:
        self.posix.append(f"/dev/shm/{self.posix_prefix()}{len(self.posix)}")
        self._map_path(pid, self.posix[-1], page, n, kind, prot, n)
        if unlinked:
            with suppress(FileNotFoundError):
                os.unlink(self.posix[-1])

    def posix_prefix(self) -> str:
        """How the names of this session begin."""
        raise NotImplementedError

    def forget_posix(self) -> None:
        """Take the session's names away."""
        for path in self.posix:
            with suppress(FileNotFoundError):
                os.unlink(path)

    def _attach(self, pid: int, page: int, n: int) -> None:
        shmid = self.call(pid, "shmget", 0, n * PAGE, 0o600)
        if shmid >= 0:
            self.call(pid, "shmat", shmid, STAGE + page * PAGE, _SHM_REMAP)
            self.call(pid, "shmctl", shmid, _IPC_RMID, 0)  # it ends with its last user

    def _detach(self, pid: int, page: int) -> None:
        self.call(pid, "shmdt", STAGE + page * PAGE)

    def _duplicate(self, pid: int, page: int, n: int, to: int) -> None:
        """The same shared memory at another place, too."""
        self.call(pid, "mremap", STAGE + page * PAGE, 0, n * PAGE, MAYMOVE | MREMAP_FIXED, STAGE + to * PAGE)

    def _remap_file_pages(self, pid: int, page: int, n: int, offset: int) -> None:
        self.call(pid, "remap_file_pages", STAGE + page * PAGE, n * PAGE, 0, offset, 0)

    def _lock_on_fault(self, pid: int, page: int, n: int) -> None:
        self.call(pid, "mlock2", STAGE + page * PAGE, n * PAGE, 1)

    def _lock_all(self, pid: int, flags: int) -> None:
        self.call(pid, "mlockall", flags)

    def _unlock_all(self, pid: int) -> None:
        self.call(pid, "munlockall")

    def _seal(self, pid: int, page: int, n: int) -> None:
        self.call(pid, "mseal", STAGE + page * PAGE, n * PAGE, 0)

    def _seal_memfd(self, pid: int, slot: int, seals: int) -> None:
        self.call(pid, "fcntl", MEMFDS + slot, _F_ADD_SEALS, seals)

    def _read_file_into(self, pid: int, slot: int, offset: int, page: int, n: int) -> None:
        """Written by the kernel."""
        self.call(pid, "pread64", FILES + slot, STAGE + page * PAGE + 50, n * PAGE - 100, offset * PAGE)

    def _advise_from_outside(self, pid: int, page: int, n: int, advice: int) -> None:
        fd = os.pidfd_open(pid)
        place = _Iovec(STAGE + page * PAGE, n * PAGE)
        ctypes.CDLL(None).syscall(_SYS_PROCESS_MADVISE, fd, ctypes.byref(place), ctypes.c_size_t(1), advice, 0)
        os.close(fd)
