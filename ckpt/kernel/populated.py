"""The full populated map of another task's mappings: which pages are DATA, ZERO or GUARD."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ckpt.kernel import uapi_pagemap as up
from ckpt.kernel.entries import read_entries, sifted
from ckpt.kernel.pagemap import (
    THERE,
    Pagemap,
    Regions,
    categories,
    contiguous,
    covered,
    has_pagemap_scan,
    stretches,
    zero_page_frame,
)
from ckpt.records.runs import DATA, GUARD, PAGE_SIZE, U64, ZERO, PageRuns


def take(pid: int, ranges: U64, anonymous: npt.NDArray[np.bool_] | None = None) -> PageRuns:
    """The full populated map of private mappings, `ranges` shape (n, 2) in bytes: DATA, ZERO and GUARD.

    To be called in the freeze. `anonymous`, shape (n,), says which rows are anonymous: those cost a tenth.
    Clean pages of a private file mapping are the file's and not populated. Huge zero pages may be DATA where
    PAGEMAP_SCAN is missing; their bytes tell.
    """
    return look(pid, ranges, anonymous)()


def look(pid: int, ranges: U64, anonymous: npt.NDArray[np.bool_] | None = None) -> Callable[[], PageRuns]:
    """`take` in two steps: what needs the freeze now, the rest when the answer is asked for."""
    with Pagemap(pid) as pagemap:
        if not has_pagemap_scan():
            whole = contiguous(ranges)
            blocks = read_entries(pagemap, whole)
            return lambda: of_entries(*sifted(blocks, whole))
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
    return pagemap.scan(spans, anyof=THERE | guard, returned=up.PAGE_IS_FILE | up.PAGE_IS_PFNZERO | guard)


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
        returned=THERE | up.PAGE_IS_PFNZERO | up.PAGE_IS_GUARD & categories(),
    )


def _of_inverted_scan(found: Regions, spans: U64) -> PageRuns:
    # The gaps that these regions and the edges of the spans leave are data.
    edges = np.concatenate([found["start"], spans[:, 0], spans[:, 1]])
    ends = np.concatenate([found["end"], spans[:, 0], spans[:, 1]])
    order = np.lexsort((ends, edges))
    gap_start, gap_end = ends[order][:-1], edges[order][1:]
    inside = (gap_end > gap_start) & covered(gap_start, spans)
    there = found[found["categories"] & (THERE | up.PAGE_IS_GUARD) != 0]
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


def of_entries(pages: U64, entries: U64) -> PageRuns:
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
    first, last = stretches((start[1:] != end[:-1]) | (kind[1:] != kind[:-1]))
    return PageRuns(start[first].astype(np.uint64), (end[last] - start[first]).astype(np.uint64), kind[first])
