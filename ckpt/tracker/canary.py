"""Canary pages: ckpt dirties them itself after each clear, so that a clear by somebody else is seen.

Two pages that as a rule live as long as the address space: one near its start that the target cannot write to (its
relocated data; else data or heap), for what it writes itself looks as if ckpt had, and one near its end (stack).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import islice

import numpy as np

from ckpt.errors import KernelError
from ckpt.kernel import uapi
from ckpt.kernel import uapi_pagemap as up
from ckpt.kernel.memory import Memory
from ckpt.kernel.pagemap import Pagemap, zero_page_frame
from ckpt.records.runs import PAGE_SIZE, U64
from ckpt.records.seams import MmAccess

_ROWS = 32  # mappings looked at from each end
_WINDOW = 512  # pages looked at in each


def _writable(key: str) -> bool:
    prot = key.rsplit(":", 1)[-1]
    return "w" in prot or (prot.isdigit() and int(prot) & uapi.PROT_WRITE != 0)


def choose(pagemap: Pagemap, ranges: U64, keys: Sequence[str]) -> list[int]:
    """Page numbers of at most two populated pages of the given mappings."""
    upwards, downwards = range(len(keys)), reversed(range(len(keys)))
    first = _populated(pagemap, _rows(ranges, keys, upwards, writable=False), from_end=False)
    if first is None:
        first = _populated(pagemap, _rows(ranges, keys, upwards, writable=True), from_end=False)
    last = _populated(pagemap, _rows(ranges, keys, downwards, writable=True), from_end=True)
    return sorted({page for page in (first, last) if page is not None})


def still(pages: Sequence[int], ranges: U64) -> bool:
    """Whether populated pages of the last round serve again: they lie in mappings among the given ones.

    Remembered, as the layouts are: asked before the freeze, it costs next to nothing inside.
    """
    return _still(tuple(pages), ranges.tobytes())


@lru_cache(maxsize=64)
def _still(pages: tuple[int, ...], ranges: bytes) -> bool:
    rows: list[list[int]] = np.frombuffer(ranges, np.uint64).reshape(-1, 2).tolist()
    for page in pages:
        address = page * PAGE_SIZE
        row = bisect_right(rows, [address, 1 << 64]) - 1
        if row < 0 or address >= rows[row][1]:
            return False
    return bool(pages)


def _rows(ranges: U64, keys: Sequence[str], order: Iterable[int], *, writable: bool) -> Iterable[tuple[int, int]]:
    """The first mappings in some order that are writable, or are not."""
    found = (at for at in order if _writable(keys[at]) == writable)
    return ((int(ranges[at, 0]), int(ranges[at, 1])) for at in islice(found, _ROWS))


def _populated(pagemap: Pagemap, rows: Iterable[tuple[int, int]], *, from_end: bool) -> int | None:
    for start, end in rows:
        nr_pages = min(_WINDOW, (end - start) // PAGE_SIZE)
        at = end - nr_pages * PAGE_SIZE if from_end else start
        entries = pagemap.entries(at, nr_pages)
        keep = (entries & np.uint64(up.PM_PRESENT) != 0) & (entries & np.uint64(up.PM_FILE) == 0)
        if zero := zero_page_frame():
            keep &= entries & np.uint64(up.PM_PFRAME_MASK) != zero
        found = np.flatnonzero(keep)
        if len(found):
            return at // PAGE_SIZE + int(found[-1 if from_end else 0])
    return None


def sing(mm: MmAccess, pages: Sequence[int]) -> list[int]:
    """Dirty the pages by writing one byte of theirs back; in the freeze. Gives those that could be written.

    A kernel may forbid writing past the protection (proc_mem.force_override).
    """
    sung: list[int] = []
    if not pages:
        return sung
    with Memory(mm.pid, write=True) as memory:
        for page in pages:
            with suppress(KernelError):
                memory.write(page * PAGE_SIZE, memory.read(page * PAGE_SIZE, 1))
                sung.append(page)
    return sung


def verdict(populated: Sequence[bool], dirty: Sequence[bool]) -> str | None:
    """Why the last epoch cannot be trusted, from each canary's being populated still and its being dirty."""
    if not any(populated):
        return "no canary page of the last round is left, so that a foreign clear could not be seen"
    if not all(is_dirty for there, is_dirty in zip(populated, dirty, strict=True) if there):
        return "something else has cleared the dirty bits since the last round (a canary page is clean)"
    return None
