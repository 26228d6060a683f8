"""Memory of other tasks: process_vm_readv/writev and /proc/PID/mem."""

from __future__ import annotations

import ctypes
import os

import numpy as np
import numpy.typing as npt

from ckpt.errors import KernelError, NoSuchTask
from ckpt.kernel import uapi
from ckpt.kernel.libc import kernel_error, syscall
from ckpt.kernel.standins import entry
from ckpt.records.runs import U64

IOV_MAX = 1024


class Memory:
    """Reads and writes the memory of one task; `/proc/PID/mem` is open while the object lives."""

    def __init__(self, pid: int, *, write: bool = False) -> None:
        self.pid = pid
        mode = os.O_RDWR if write else os.O_RDONLY
        try:
            self._fd = os.open(f"/proc/{entry(pid)}/mem", mode | os.O_CLOEXEC)
        except OSError as error:
            raise kernel_error(f"opening /proc/{pid}/mem", error.errno or 0) from None

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes at `address`, whatever the protection; KernelError when any of it is not mapped."""
        try:
            data = os.pread(self._fd, size, address)
        except OSError as error:
            raise kernel_error(f"reading {size} bytes at {address:#x} of {self.pid}", error.errno or 0) from None
        if len(data) != size:
            raise KernelError(f"reading {size} bytes at {address:#x} of {self.pid}: got {len(data)}")
        return data

    def read_into(self, address: int, buffer: memoryview) -> int:
        """Reads into `buffer`; gives the bytes read, short or 0 where memory is not mapped."""
        try:
            return os.preadv(self._fd, [buffer], address)
        except OSError:
            return 0

    def write(self, address: int, data: bytes | memoryview) -> None:
        """Writes `data` at `address`, whatever the protection."""
        view = memoryview(data)
        while len(view):
            try:
                done = os.pwrite(self._fd, view, address)
            except OSError as error:
                what = f"writing {len(view)} bytes at {address:#x} of {self.pid}"
                raise kernel_error(what, error.errno or 0) from None
            if not done:  # the memory of a task that was killed is gone
                raise NoSuchTask(f"task {self.pid} ended while its memory was written")
            address += done
            view = view[done:]


class _Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_uint64), ("length", ctypes.c_uint64)]


Iovecs = npt.NDArray[np.void]
_iovec = np.dtype([("base", "<u8"), ("length", "<u8")])


def _transfer(nr: int, what: str, pid: int, local: int, size: int, remote: Iovecs) -> int:
    here = _Iovec(local, size)
    return syscall(what, nr, entry(pid), ctypes.byref(here), 1, remote.ctypes.data, len(remote), 0)


def _iovecs(start: U64, length: U64) -> Iovecs:
    array = np.empty(len(start), _iovec)
    array["base"] = start
    array["length"] = length
    return array


def readv(pid: int, start: U64, length: U64, local: int) -> int:
    """process_vm_readv of up to IOV_MAX pieces (bytes) to address `local`, back to back; gives the bytes read.

    Stops before the first piece that cannot be read; 0 when that is the first one.
    """
    if len(start) > IOV_MAX:
        raise ValueError("more than IOV_MAX pieces")
    size = int(length.sum())
    try:
        return _transfer(
            uapi.SYS_process_vm_readv, f"process_vm_readv({pid})", pid, local, size, _iovecs(start, length)
        )
    except KernelError as error:
        if error.errno == 14:  # EFAULT: not even the first piece
            return 0
        raise


def writev(pid: int, start: U64, length: U64, local: int) -> int:
    """process_vm_writev of up to IOV_MAX pieces (bytes) from address `local`; gives the bytes written."""
    if len(start) > IOV_MAX:
        raise ValueError("more than IOV_MAX pieces")
    size = int(length.sum())
    try:
        return _transfer(
            uapi.SYS_process_vm_writev, f"process_vm_writev({pid})", pid, local, size, _iovecs(start, length)
        )
    except KernelError as error:
        if error.errno == 14:
            return 0
        raise
