"""What lies in the last page of a file behind its end: no read(2) shows it, and whoever maps the file may use it."""

from __future__ import annotations

import ctypes
import mmap
import os
from contextlib import suppress

import numpy as np

from ckpt.kernel import memory
from ckpt.records.runs import PAGE_SIZE, U8


def read_tail(fd: int, end: int, out: U8) -> None:
    """The bytes from the file's end on into `out`, which reaches up to the end of its page; zeros if there are none."""
    out[:] = 0
    inside = end % PAGE_SIZE
    with suppress(OSError, ValueError):  # it cannot be mapped, or has become shorter
        with mmap.mmap(fd, inside, mmap.MAP_SHARED, mmap.PROT_READ, offset=end - inside) as area:
            # By a call, for a page that has gone since would end ckpt by SIGBUS.
            start, length = np.array([_address(area) + inside], np.uint64), np.array([len(out)], np.uint64)
            memory.readv(os.getpid(), start, length, out.ctypes.data)


def write_tail(fd: int, end: int, data: bytes) -> None:
    """Write behind the end of a file, up to the end of its page; OSError when it cannot be mapped."""
    inside = end % PAGE_SIZE
    with mmap.mmap(fd, inside, offset=end - inside) as area:
        ctypes.memmove(_address(area) + inside, data, len(data))


def _address(area: mmap.mmap) -> int:
    return int(np.frombuffer(area, np.uint8).ctypes.data)
