"""The page tables of another task: PAGEMAP_SCAN, /proc/PID/pagemap, clear_refs."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
from functools import cache

import numpy as np
import numpy.typing as npt

from ckpt.errors import KernelError, NoSuchTask
from ckpt.kernel import uapi_pagemap as up
from ckpt.kernel.libc import kernel_error
from ckpt.kernel.standins import entry
from ckpt.records.runs import PAGE_SIZE, U64

REGION = np.dtype([("start", "<u8"), ("end", "<u8"), ("categories", "<u8")])  # struct page_region
Regions = npt.NDArray[np.void]  # of REGION

_VEC = 1 << 15  # regions in one PAGEMAP_SCAN
THERE = up.PAGE_IS_PRESENT | up.PAGE_IS_SWAPPED
_GAP = 512 * PAGE_SIZE  # holes shorter than this are read over: one page of pagemap costs less than a call


def _proc_error(what: str, pid: int, error: OSError) -> KernelError | NoSuchTask:
    if error.errno in (errno.ENOENT, errno.ESRCH):
        return NoSuchTask(f"there is no task {pid} (any more)", hint="check the pid with ps")
    return kernel_error(what, error.errno or 0)


class Pagemap:
    """The open /proc/PID/pagemap of one task, with its buffers."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        try:
            self._fd = os.open(f"/proc/{entry(pid)}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise _proc_error(f"opening /proc/{pid}/pagemap", pid, error) from None
        self._vec: Regions | None = None

    def __enter__(self) -> Pagemap:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def scan(
        self,
        spans: U64,
        *,
        mask: int = 0,
        anyof: int = 0,
        inverted: int = 0,
        returned: int = 0,
        flags: int = 0,
    ) -> Regions:
        """PAGEMAP_SCAN over `spans`, shape (n, 2) in bytes; the matching regions in ascending order."""
        arg, vec, parts, used = up.pm_scan_arg(size=ctypes.sizeof(up.pm_scan_arg)), self._regions(), [], 0
        base = vec.ctypes.data
        arg.flags, arg.max_pages = flags, 0
        arg.category_mask, arg.category_anyof_mask = mask, anyof
        arg.category_inverted, arg.return_mask = inverted, returned
        for start, end in spans.tolist():
            while start < end:
                arg.start, arg.end, arg.walk_end = start, end, 0
                arg.vec, arg.vec_len = base + used * REGION.itemsize, _VEC - used
                try:
                    used += fcntl.ioctl(self._fd, up.PAGEMAP_SCAN, arg)
                except OSError as error:
                    raise _proc_error(f"PAGEMAP_SCAN of task {self.pid}", self.pid, error) from None
                # After more than 512 regions the kernel leaves walk_end where it once had to stop, and has gone on.
                start = max(arg.walk_end, int(vec["end"][used - 1]) if used else 0)
                if start < end or used == _VEC:
                    if not used and start < end:
                        raise KernelError(f"PAGEMAP_SCAN of task {self.pid} does not get on at {start:#x}")
                    parts.append(vec[:used].copy())
                    used = 0
        parts.append(vec[:used].copy())
        return np.concatenate(parts)

    def _regions(self) -> Regions:
        if self._vec is None:
            self._vec = np.empty(_VEC, REGION)
        return self._vec

    def entries(self, start: int, nr_pages: int, out: U64 | None = None) -> U64:
        """The pagemap entries of `nr_pages` pages from address `start`, in `out`; zeros where nothing was given."""
        if out is None:
            out = np.empty(nr_pages, "<u8")
        view = out.data.cast("B")
        done = 0
        while done < len(view):
            try:
                got = os.preadv(self._fd, [view[done:]], start // PAGE_SIZE * 8 + done)
            except OSError as error:
                raise _proc_error(f"reading pagemap of task {self.pid}", self.pid, error) from None
            if not got:
                view[done:] = bytes(len(view) - done)
                break
            done += got
        return out

    def entry(self, page: int) -> int:
        """The pagemap entry of one page number."""
        try:
            return int.from_bytes(os.pread(self._fd, 8, page * 8), "little")
        except OSError as error:
            raise _proc_error(f"reading pagemap of task {self.pid}", self.pid, error) from None

    def spans_to_read(self, spans: U64) -> U64:
        """`spans` over short holes, cut down to where something is populated: sparse mappings cost no reading."""
        start, end = spans[:, 0], spans[:, 1]
        if has_pagemap_scan():
            found = self.scan(spans, anyof=THERE)
            start, end = found["start"], found["end"]
        if not len(start):
            return np.empty((0, 2), np.uint64)
        first, last = stretches(start[1:] - end[:-1] >= _GAP)
        return np.stack([start[first], end[last]], axis=1).astype(np.uint64)


def covered(address: U64, spans: U64) -> npt.NDArray[np.bool_]:
    """Which addresses lie in `spans`, shape (n, 2), ascending."""
    if not len(spans):
        return np.zeros(len(address), np.bool_)
    row = np.maximum(np.searchsorted(spans[:, 0], address, "right"), 1) - 1
    inside: npt.NDArray[np.bool_] = (address >= spans[row, 0]) & (address < spans[row, 1])
    return inside


def contiguous(ranges: U64) -> U64:
    """Adjacent rows (start, end) joined into one."""
    if len(ranges) < 2:
        return ranges
    first, last = stretches(ranges[1:, 0] != ranges[:-1, 1])
    if len(first) == len(ranges):
        return ranges
    return np.stack([ranges[first, 0], ranges[last, 1]], axis=1)


def stretches(apart: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The first and the last row of each stretch; `apart`, shape (rows - 1,), says where one ends."""
    cut = np.flatnonzero(apart)
    first, last = np.zeros(len(cut) + 1, np.int64), np.full(len(cut) + 1, len(apart), np.int64)
    first[1:], last[:-1] = cut + 1, cut
    return first, last


# ---------------------------------------------------------------- what the kernel can do


@cache
def categories() -> int:
    """The PAGE_IS_* bits that this kernel's PAGEMAP_SCAN knows; 0 without PAGEMAP_SCAN."""
    known = 0
    with Pagemap(os.getpid()) as own:
        spans = np.array([[0, PAGE_SIZE]], np.uint64)
        for bit in range(9):
            try:
                own.scan(spans, anyof=1 << bit, returned=1 << bit)
            except KernelError:
                continue
            known |= 1 << bit
    return known


def has_pagemap_scan() -> bool:
    """Whether PAGEMAP_SCAN exists (Linux 6.7)."""
    return categories() & up.PAGE_IS_WRITTEN != 0


@cache
def zero_page_frame() -> int:
    """The frame number of the zero page, seen through a page of ckpt's own; 0 when frames are hidden."""
    area = mmap.mmap(-1, PAGE_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        area.madvise(mmap.MADV_NOHUGEPAGE)
    except OSError:
        pass  # a kernel without huge pages
    view = np.frombuffer(area, np.uint8)
    address = view.ctypes.data
    view.sum()  # the read maps the zero page
    with Pagemap(os.getpid()) as own:
        entry = int(own.entries(address, 1)[0])
    del view
    area.close()
    return entry & up.PM_PFRAME_MASK if entry & up.PM_PRESENT else 0


def clear_soft_dirty(pid: int) -> None:
    """Write 4 to clear_refs. It succeeds even where soft-dirty is compiled out: probe the bit, not this."""
    try:
        fd = os.open(f"/proc/{entry(pid)}/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, up.CLEAR_REFS_SOFT_DIRTY)
        finally:
            os.close(fd)
    except OSError as error:
        raise _proc_error(f"clear_refs of task {pid}", pid, error) from None
