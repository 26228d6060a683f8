"""The page tables of another task: PAGEMAP_SCAN, /proc/PID/pagemap, clear_refs, the full populated map."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from ckpt.errors import KernelError, NoSuchTask
from ckpt.kernel import uapi
from ckpt.kernel import uapi_pagemap as up
from ckpt.kernel.libc import kernel_error
from ckpt.kernel.standins import entry
from ckpt.records.runs import DATA, GUARD, PAGE_SIZE, U64, ZERO, PageRuns

REGION = np.dtype([("start", "<u8"), ("end", "<u8"), ("categories", "<u8")])  # struct page_region
Regions = npt.NDArray[np.void]  # of REGION
Block = tuple[int, U64, npt.NDArray[np.int64] | None]  # first page, entries, of which pages after the first (all: None)

_VEC = 1 << 15  # regions in one PAGEMAP_SCAN
_ENTRIES = 1 << 17  # entries in one read of pagemap: 512 MiB of addresses
_THERE = up.PAGE_IS_PRESENT | up.PAGE_IS_SWAPPED
_RAW_ENTRIES = 1 << 20  # entries that may wait to be sifted: those of 4 GiB
_THERE_ENTRY = np.uint64(up.PM_PRESENT | up.PM_SWAP)
_GAP = 512 * PAGE_SIZE  # holes shorter than this are read over: one page of pagemap costs less than a call


def _proc_error(what: str, pid: int, error: OSError) -> KernelError | NoSuchTask:
    if error.errno in (errno.ENOENT, errno.ESRCH):
        return NoSuchTask(f"there is no task {pid} (any more)", hint="check the pid with ps")
    return kernel_error(what, error.errno or 0)


class Room:
    """Memory for pagemap entries that has been touched before: new pages cost half of what reading into them does."""

    def __init__(self) -> None:
        self._parts: list[U64] = []
        self._next = 0

    def take(self, nr_pages: int) -> U64:
        """Room for so many entries, nobody else's until `reuse`."""
        if self._next == len(self._parts):
            self._parts.append(np.empty(nr_pages, "<u8"))
        elif len(self._parts[self._next]) < nr_pages:
            self._parts[self._next] = np.empty(nr_pages, "<u8")
        self._next += 1
        return self._parts[self._next - 1][:nr_pages]

    def reuse(self) -> None:
        """From now on all of it may be given out again."""
        self._next = 0


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
            end = min(end, uapi.TASK_SIZE_MAX)
            while start < end:
                arg.start, arg.end, arg.walk_end = start, end, 0
                arg.vec, arg.vec_len = base + used * REGION.itemsize, _VEC - used
                try:
                    used += fcntl.ioctl(self._fd, up.PAGEMAP_SCAN, arg)
                except OSError as error:
                    raise _proc_error(f"PAGEMAP_SCAN of task {self.pid}", self.pid, error) from None
                start = arg.walk_end
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
            found = self.scan(spans, anyof=_THERE)
            start, end = found["start"], found["end"]
        if not len(start):
            return np.empty((0, 2), np.uint64)
        first, last = _stretches(start[1:] - end[:-1] >= _GAP)
        return np.stack([start[first], end[last]], axis=1).astype(np.uint64)

    def populated_entries(self, spans: U64) -> tuple[U64, U64]:
        """(page numbers, entries) of every present or swapped page of `spans` (bytes), ascending."""
        return sifted(self.read_entries(spans), spans)

    def read_entries(self, spans: U64, room: Room | None = None) -> list[Block]:
        """The entries of `spans` (bytes) for `sifted`: in a freeze, where there is time to read and no more.

        They lie in `room`, when it is given, as long as it is not used again.
        """
        room = room or Room()
        blocks: list[Block] = []
        raw = _RAW_ENTRIES
        for start, end in self.spans_to_read(spans).tolist():
            for at in range(start, end, _ENTRIES * PAGE_SIZE):
                nr_pages = min(_ENTRIES, (end - at) // PAGE_SIZE)
                entries = self.entries(at, nr_pages, room.take(nr_pages))
                raw -= nr_pages
                index = None if raw >= 0 else np.flatnonzero(entries & _THERE_ENTRY)
                blocks.append((at // PAGE_SIZE, entries if index is None else entries[index], index))
        return blocks


def sifted(blocks: Sequence[Block], spans: U64) -> tuple[U64, U64]:
    """What of `read_entries` is present or swapped: (page numbers, entries), ascending."""
    pages, values = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
    for first, entries, index in blocks:
        if index is None:
            index = np.flatnonzero(entries & _THERE_ENTRY)
            entries = entries[index]
        pages.append(index.astype(np.uint64) + np.uint64(first))
        values.append(entries)
    found, entry = np.concatenate(pages), np.concatenate(values)
    # spans_to_read merged over short holes, where other mappings may lie: keep only pages of `spans`.
    keep = _covered(found * np.uint64(PAGE_SIZE), spans)
    return found[keep], entry[keep]


def _covered(address: U64, spans: U64) -> npt.NDArray[np.bool_]:
    if not len(spans):
        return np.zeros(len(address), np.bool_)
    row = np.maximum(np.searchsorted(spans[:, 0], address, "right"), 1) - 1
    inside: npt.NDArray[np.bool_] = (address >= spans[row, 0]) & (address < spans[row, 1])
    return inside


def contiguous(ranges: U64) -> U64:
    """Adjacent rows (start, end) joined into one."""
    if len(ranges) < 2:
        return ranges
    first, last = _stretches(ranges[1:, 0] != ranges[:-1, 1])
    if len(first) == len(ranges):
        return ranges
    return np.stack([ranges[first, 0], ranges[last, 1]], axis=1)


def _stretches(apart: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
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


# ---------------------------------------------------------------- the populated map


def populated(pid: int, ranges: U64, anonymous: npt.NDArray[np.bool_] | None = None) -> PageRuns:
    """The full populated map of private mappings, `ranges` shape (n, 2) in bytes: DATA, ZERO and GUARD.

    To be called in the freeze. `anonymous`, shape (n,), says which rows are anonymous: those cost a tenth.
    Clean pages of a private file mapping are the file's and not populated. Huge zero pages may be DATA where
    PAGEMAP_SCAN is missing; their bytes tell.
    """
    return look_populated(pid, ranges, anonymous)()


def look_populated(pid: int, ranges: U64, anonymous: npt.NDArray[np.bool_] | None = None) -> Callable[[], PageRuns]:
    """`populated` in two steps: what needs the freeze now, the rest when the answer is asked for."""
    with Pagemap(pid) as pagemap:
        if not has_pagemap_scan():
            whole = contiguous(ranges)
            blocks = pagemap.read_entries(whole)
            return lambda: populated_of(*sifted(blocks, whole))
        if anonymous is None:
            found = _scan(pagemap, contiguous(ranges))
            return lambda: _of_scan(found)
        mine, files = contiguous(ranges[anonymous]), contiguous(ranges[~anonymous])
        first, second = _scan_inverted(pagemap, mine), _scan(pagemap, files)
    return lambda: _both(_of_inverted_scan(first, mine), _of_scan(second))


def _both(first: PageRuns, second: PageRuns) -> PageRuns:
    start = np.concatenate([first.start, second.start])
    order = np.argsort(start)
    end = start + np.concatenate([first.nr_pages, second.nr_pages])
    return _joined(start[order], end[order], np.concatenate([first.kind, second.kind])[order])


def guards(pid: int, ranges: U64) -> PageRuns:
    """The guard pages of mappings whose pages are not the task's own, `ranges` shape (n, 2) in bytes."""
    if not len(ranges) or not up.PAGE_IS_GUARD & categories():
        return PageRuns.empty()
    with Pagemap(pid) as pagemap:
        found = pagemap.scan(contiguous(ranges), mask=up.PAGE_IS_GUARD)
    return _runs(found["start"], found["end"], np.full(len(found), GUARD, np.uint8))


def _scan(pagemap: Pagemap, spans: U64) -> Regions:
    guard = up.PAGE_IS_GUARD & categories()
    return pagemap.scan(spans, anyof=_THERE | guard, returned=up.PAGE_IS_FILE | up.PAGE_IS_PFNZERO | guard)


def _of_scan(found: Regions) -> PageRuns:
    kind = _kinds(found["categories"])
    # The zero page is no anonymous page either, hence the second half.
    keep = (found["categories"] & up.PAGE_IS_FILE == 0) | (kind != DATA)
    return _runs(found["start"][keep], found["end"][keep], kind[keep])


def _scan_inverted(pagemap: Pagemap, spans: U64) -> Regions:
    """For anonymous memory: ask for whatever is not an ordinary present page, which is little as a rule."""
    return pagemap.scan(
        spans,
        anyof=up.PAGE_IS_PRESENT | up.PAGE_IS_PFNZERO,
        inverted=up.PAGE_IS_PRESENT,
        returned=_THERE | up.PAGE_IS_PFNZERO | up.PAGE_IS_GUARD & categories(),
    )


def _of_inverted_scan(found: Regions, spans: U64) -> PageRuns:
    # The gaps that these regions and the edges of the spans leave are data.
    edges = np.concatenate([found["start"], spans[:, 0], spans[:, 1]])
    ends = np.concatenate([found["end"], spans[:, 0], spans[:, 1]])
    order = np.lexsort((ends, edges))
    gap_start, gap_end = ends[order][:-1], edges[order][1:]
    inside = (gap_end > gap_start) & _covered(gap_start, spans)
    there = found[found["categories"] & (_THERE | up.PAGE_IS_GUARD) != 0]
    start = np.concatenate([gap_start[inside], there["start"]])
    end = np.concatenate([gap_end[inside], there["end"]])
    kind = np.concatenate([np.full(int(inside.sum()), DATA, np.uint8), _kinds(there["categories"])])
    order = np.argsort(start)
    return _runs(start[order], end[order], kind[order])


def _kinds(category: U64) -> npt.NDArray[np.uint8]:
    kind = np.full(len(category), DATA, np.uint8)
    kind[category & up.PAGE_IS_PFNZERO != 0] = ZERO
    kind[category & up.PAGE_IS_GUARD != 0] = GUARD
    return kind


def _runs(start: U64, end: U64, kind: npt.NDArray[np.uint8]) -> PageRuns:
    return _joined(start // np.uint64(PAGE_SIZE), end // np.uint64(PAGE_SIZE), kind)


def populated_of(pages: U64, entries: U64) -> PageRuns:
    """The populated map as the pagemap entries of the present and swapped pages tell it."""
    kind = np.full(len(pages), DATA, np.uint8)
    zero = zero_page_frame()
    if zero:
        present = entries & np.uint64(up.PM_PRESENT) != 0
        kind[present & (entries & np.uint64(up.PM_PFRAME_MASK) == zero)] = ZERO
    kind[entries & np.uint64(up.PM_GUARD_REGION) != 0] = GUARD
    keep = (entries & np.uint64(up.PM_FILE) == 0) | (kind != DATA)
    return PageRuns.from_pages(pages[keep], kind[keep])


def _joined(start: U64, end: U64, kind: npt.NDArray[np.uint8]) -> PageRuns:
    if not len(start):
        return PageRuns.empty()
    first, last = _stretches((start[1:] != end[:-1]) | (kind[1:] != kind[:-1]))
    return PageRuns(start[first].astype(np.uint64), (end[last] - start[first]).astype(np.uint64), kind[first])


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
