"""Memory that a task has from the one it is cloned from: pages that both have stay one page, copy-on-write.

A fork leaves parent and child with the same pages until one of them writes. A restore that filled each of them on its
own would need the memory twice, so a child is cloned from a parent that is filled already; mappings which are the
same in both are kept, and only pages that differ are written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ckpt.kernel.memory import Memory
from ckpt.kernel.pagemap import contiguous
from ckpt.records.mm import MmRecord, Vma
from ckpt.records.runs import DATA, PAGE_SIZE, U64, ZERO, PageRuns, pieces
from ckpt.tracker import spans

WORTH = 64
"""Pages that parent and child must have at the same places, else each is built on its own."""

_OWN = {"ht", "dp", "ss", "wf", "dc"}  # not handed to children, or not as they are
_KERNELS = ("[vdso", "[vvar", "[vsyscall")  # moved by name, wherever they are
_PAGE = np.uint64(PAGE_SIZE)


@dataclass(frozen=True)
class Donor:
    """What the address space of a skeleton was when others were cloned from it."""

    mm: MmRecord
    runs: PageRuns
    unfit: frozenset[int]  # starts of mappings that are writable for the time being


@dataclass
class Kept:
    """What a clone keeps of its donor's mappings, all spans of shape (n, 2): start and end."""

    starts: set[int] = field(default_factory=set)  # of the clone's own mappings that need not be made
    writable: set[int] = field(default_factory=set)  # those of them that still are to be protected
    surplus: U64 = field(default_factory=lambda: spans.EMPTY)  # bytes to unmap
    stale: U64 = field(default_factory=lambda: spans.EMPTY)  # pages of the donor that the clone does not have
    common: U64 = field(default_factory=lambda: spans.EMPTY)  # pages that both have, with equal bytes or not


def worth(donor: MmRecord, donor_runs: PageRuns, mm: MmRecord, runs: PageRuns) -> bool:
    """Whether it pays to clone the one from the other: by the places of their pages, for a fork leaves the same."""
    mine = _pages(_inside(_matching(donor, mm), mm))
    both = spans.both(spans.both(_spans(donor_runs, DATA), _spans(runs, DATA)), mine)
    return int((both[:, 1] - both[:, 0]).sum()) >= WORTH


def keep(donor: Donor, mm: MmRecord, runs: PageRuns, unfit: set[int]) -> Kept:
    """`unfit`: the starts of the clone's mappings that must be writable while pages are filled in."""
    starts, writable = set(), set()
    for start, origin in _matching(donor.mm, mm).items():
        if start in unfit and origin not in donor.unfit:
            continue
        starts.add(start)
        if origin in donor.unfit:
            writable.add(start)
    inside = _inside(starts, mm)
    theirs = _rows([vma for vma in donor.mm.vmas if not vma.name.startswith(_KERNELS)])
    here, data = _pages(inside), _spans(runs, DATA)
    filled = spans.both(_joined(_spans(donor.runs, DATA), _spans(donor.runs, ZERO)), here)
    return Kept(
        starts=starts,
        writable=writable,
        surplus=spans.minus(contiguous(theirs), inside),
        stale=spans.minus(filled, data),
        common=spans.both(spans.both(_spans(donor.runs, DATA), data), here),
    )


def differing(memory: Memory, pages: U64, data: memoryview, common: U64) -> U64:
    """The indices of `pages` whose bytes in the task are not those of `data`; only `common` ones can be the same.

    Read through /proc/PID/mem: process_vm_readv pins pages, for which the kernel first gives the task its own copy.
    """
    row = np.searchsorted(common[:, 0], pages, "right").astype(np.int64) - 1
    candidates = np.flatnonzero((row >= 0) & (pages < common[np.maximum(row, 0), 1])) if len(common) else row[:0]
    if not len(candidates):
        return np.arange(len(pages), dtype=np.uint64)
    there = np.empty((len(candidates), PAGE_SIZE), np.uint8)
    view = there.reshape(-1).data
    for address, length, at in pieces(pages[candidates]):
        if memory.read_into(address, view[at : at + length]) != length:
            return np.arange(len(pages), dtype=np.uint64)
    wanted = np.frombuffer(data, np.uint8).reshape(-1, PAGE_SIZE)[candidates]
    same = candidates[(wanted == there).all(axis=1)]
    different = np.ones(len(pages), np.bool_)
    different[same] = False
    return np.flatnonzero(different).astype(np.uint64)


def _matching(donor: MmRecord, mm: MmRecord) -> dict[int, int]:
    """Starts of mappings that lie within one of the donor that is the same in all else: start -> the donor's start."""
    theirs = sorted((vma for vma in donor.vmas if _may_be_kept(vma)), key=lambda vma: vma.start)
    first = np.array([vma.start for vma in theirs], np.uint64)
    found = {}
    for vma in mm.vmas:
        at = int(np.searchsorted(first, vma.start, "right")) - 1
        if at >= 0 and _may_be_kept(vma) and _same(vma, theirs[at]):
            found[vma.start] = theirs[at].start
    return found


def _may_be_kept(vma: Vma) -> bool:
    return not vma.shared and vma.backing in ("anon", "file") and _OWN.isdisjoint(vma.vm_flags)


def _same(vma: Vma, other: Vma) -> bool:
    what = (vma.backing, vma.prot, vma.name, vma.file_id, vma.policy, set(vma.vm_flags) - _PASSING)
    if vma.end > other.end or what != (
        other.backing, other.prot, other.name, other.file_id, other.policy, set(other.vm_flags) - _PASSING,
    ):  # fmt: skip
        return False
    return vma.backing == "anon" or vma.pgoff - other.pgoff == vma.start - other.start


_PASSING = {"sd", "uw", "um", "lo", "lf", "sl"}  # marks of trackers, and what is set at the very end


def _inside(starts: dict[int, int] | set[int], mm: MmRecord) -> U64:
    return contiguous(_rows([vma for vma in mm.vmas if vma.start in starts]))


def _rows(vmas: Sequence[Vma]) -> U64:
    rows = np.array([(vma.start, vma.end) for vma in vmas], np.uint64).reshape(-1, 2)
    return rows[np.argsort(rows[:, 0])]


def _pages(rows: U64) -> U64:
    return rows // _PAGE


def _spans(runs: PageRuns, kind: int) -> U64:
    keep = runs.kind == kind
    start = runs.start[keep]
    return contiguous(np.stack([start, start + runs.nr_pages[keep]], axis=1).astype(np.uint64))


def _joined(one: U64, other: U64) -> U64:
    rows = np.concatenate([one, other])
    return contiguous(rows[np.argsort(rows[:, 0])])
