"""The soft-dirty tracker: bit 55 of /proc/PID/pagemap, cleared by clear_refs.

The bit is read from pagemap and not from PAGEMAP_SCAN, which leaves out what a new mapping at an old place
says. Things that lose the bit are looked for. A merge of mappings may drop the "all new" mark of one of them:
only a mapping that is exactly as it was is vouched for. mremap may move whole page tables with their bits as
they are: some frame numbers in each 2 MiB are remembered, and a chunk is vouched for only if a clean page among them
is where it was. A dirty one tells nothing: its frame may have been freed and given out anew.
KSM drops bits too, also those of pages that it merged and has given back: nothing is vouched for when it has been at
work. Pages of hugetlbfs have no bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ckpt.errors import KernelError, NoSuchTask
from ckpt.kernel import keeper, ksm, procfs
from ckpt.kernel import uapi_pagemap as up
from ckpt.kernel.entries import Room, read_entries, sifted
from ckpt.kernel.pagemap import Pagemap, clear_soft_dirty, contiguous, zero_page_frame
from ckpt.records.runs import PAGE_SIZE, U64
from ckpt.records.seams import Conclusion, MmAccess, Seen
from ckpt.tracker import canary, spans
from ckpt.tracker.state import numbers, pack, same_rows, unpack
from ckpt.tracker.write_protect import marked, release

Mask = npt.NDArray[np.bool_]

_CHUNK = 512  # pages under one page table
_SAMPLES = 8  # frames remembered in each
_SOFT_DIRTY = np.uint64(up.PM_SOFT_DIRTY)
# What identifies the page behind an entry: its frame, or its place in swap.
_IDENTITY = np.uint64(up.PM_PFRAME_MASK | up.PM_SWAP | up.PM_PRESENT)
_HUGE = np.uint64(1 << 21)  # the smallest page of hugetlbfs


class SoftDirty:
    """See the module's first lines. One object for each address space and round."""

    name = "soft-dirty"
    by_content = False

    def __init__(
        self,
        room: Room | None = None,
        mark: keeper.Mark | None = None,
        fresh: keeper.Mark | None = None,
        scans: str | None = None,
    ) -> None:
        self.seen: Seen | None = None
        self._room = room
        self._mark = mark
        self._fresh = fresh  # of `new_witness`, if the last round left none
        self._scans = ksm.scans() if scans is None else scans  # from before anything is cleared
        self._witness: keeper.Keeper | None = None
        self._epoch = ""
        self._lost: str | None = None  # why the epoch of the last round is not this chain's own

    def collect(self, mm: MmAccess, state: bytes | None) -> tuple[U64 | None, str | None, bytes]:
        """See DirtyTracker; pages that are not populated are never among the clean ones."""
        return self.look(mm, state)()

    def look(self, mm: MmAccess, state: bytes | None, *, arm: bool = True) -> Conclusion:
        """See DirtyTracker: in the freeze the entries are read and the bits cleared, what they say is found later."""
        canaries: list[int] | None = None
        fields = unpack(self.name, state)[0]
        old: list[int] = fields.get("canaries", [])
        if arm:
            release(state)  # of a round that write-protect did
        try:
            self._attend(mm.pid, fields, arm)
            with Pagemap(mm.pid) as pagemap:
                blocks = read_entries(pagemap, mm.joined, self._room)
                if arm:
                    clear_soft_dirty(mm.pid)
                    canaries = _new_canaries(mm, pagemap, old)
            merged = ksm.merged_pages(mm.pid)
            pinned = mm.pinned() if arm else None
        except NoSuchTask:
            raise
        except KernelError as error:
            why = f"soft-dirty bits could not be read or cleared: {error.message}"
            return lambda: (None, why, pack(self.name, {}))
        self.seen = cache(lambda: sifted(blocks, mm.joined))
        return partial(self._conclude, mm, state, self.seen, canaries, merged, pinned)

    def _conclude(
        self,
        mm: MmAccess,
        state: bytes | None,
        seen: Seen,
        canaries: list[int] | None,
        merged: bool,
        pinned: str | None,
    ) -> tuple[U64 | None, str | None, bytes]:
        """`canaries` are the new ones; empty when none obeys, None when nothing was cleared."""
        pages, entries = seen()
        fields, reason = unpack(self.name, state)
        reason = reason or self._stale(mm, fields, merged) or self._lost or self._canaries_say(fields, pages, entries)
        if canaries is not None and not canaries:
            why = "the soft-dirty bits of this address space cannot be cleared and set (no canary page obeys)"
            return None, reason or why, pack(self.name, {})
        clean = None if reason else self._clean(mm, fields, pages, entries)
        if canaries is None:
            return clean, reason, pack(self.name, {})
        sampled, identity = _samples(pages, entries)
        made = {
            "mm_key": mm.mm_key,
            "boot_id": procfs.boot_id(),
            "ranges": mm.ranges,
            "keys": list(mm.vma_keys),
            "sampled": sampled,
            "identity": identity,
            "canaries": canaries,
            "witness": [self._witness.pid, self._witness.start_time] if self._witness else None,
            "epoch": self._epoch,
            "pinned": pinned or mm.pinned_besides(),
            "ksm": self._scans,
        }
        return clean, reason, pack(self.name, made)

    def settle(self) -> None:
        """Nothing is left to be done: in the freeze already others must find the witness."""

    def discard(self, reason: str) -> None:
        """Without the state that `collect` gave, the next round is a full one."""
        if self._witness is not None:
            self._witness.end()
        if self._fresh is not None:
            self._fresh.keeper.end()

    # ------------------------------------------------------------------ can the last epoch be trusted?

    def _attend(self, pid: int, fields: Mapping[str, Any], arm: bool) -> None:
        """Whether the last clear was that of the last round; with `arm` a new epoch begins, before anything is cleared.

        Canaries sing for whoever asks: the rounds of another chain, or of a copy of this one, look like our own.
        """
        mark = None
        try:
            if fields.get("witness") and fields["boot_id"] == procfs.boot_id():
                mark = marked(keeper.Keeper(*fields["witness"]), self._mark)
            if mark is None or mark.epoch() != fields["epoch"]:
                self._lost = "another copy of this chain has had a round since"
        except (KernelError, NoSuchTask):
            mark = None
        if mark is None:
            self._lost = "the witness of the last round is gone, or another chain has ended it"
        if arm and mark is None:
            mark = self._anew(pid)
        if mark is None:
            return
        self._witness = mark.keeper
        if arm:
            self._epoch = mark.begin_epoch()

    def _anew(self, pid: int) -> keeper.Mark | None:
        """The only witness from now on: whoever relies on another has missed what this round clears."""
        fresh, self._fresh = self._fresh, None
        if fresh is None or not fresh.keeper.alive():  # another chain has had a round since it was started
            fresh = new_witness(pid)
        for other in keeper.find(pid):
            if fresh is None or other != fresh.keeper:
                other.end()
        return fresh

    def _stale(self, mm: MmAccess, fields: Mapping[str, Any], merged: bool) -> str | None:
        if "mm_key" not in fields:
            return "the last round could not arm soft-dirty"
        if fields["boot_id"] != procfs.boot_id():
            return "the host was booted since the last round"
        if fields["mm_key"] != mm.mm_key:
            return "the task has another address space than in the last round (exec)"
        if zero_page_frame() == 0:
            return "frame numbers are hidden from this user, without which moved pages cannot be told"
        if merged:
            return "KSM has merged pages of the task, which loses soft-dirty bits"
        if fields["ksm"] != ksm.scans():
            return "KSM has been at work on this host, and pages that it merged and gave back have lost soft-dirty bits"
        pinned: str | None = fields["pinned"]
        return pinned

    def _canaries_say(self, fields: Mapping[str, Any], pages: U64, entries: U64) -> str | None:
        there, dirty = [], []
        for page in fields["canaries"]:
            at = int(np.searchsorted(pages, page))
            there.append(at < len(pages) and int(pages[at]) == page)
            dirty.append(there[-1] and int(entries[at]) & up.PM_SOFT_DIRTY != 0)
        return canary.verdict(there, dirty)

    def _clean(self, mm: MmAccess, fields: Mapping[str, Any], pages: U64, entries: U64) -> U64:
        known = same_rows(mm, numbers(fields["ranges"], 2), fields["keys"])
        same = mm.ranges[known & ~_may_be_huge(mm)]
        keep = (entries & _SOFT_DIRTY == 0) & _trusted(pages, entries, fields)
        # MADV_DONTNEED and a read put the zero page there, with the bit clear.
        keep &= entries & np.uint64(up.PM_PFRAME_MASK) != zero_page_frame()
        return spans.both(spans.of_pages(pages[keep]), contiguous(same // np.uint64(PAGE_SIZE)))


def new_witness(pid: int) -> keeper.Mark | None:
    """A witness for a round that finds none of the last one, to be started before the freeze; None if it cannot be."""
    try:
        started = keeper.start_witness(pid)
    except (KernelError, NoSuchTask):
        return None
    try:
        return keeper.Mark(started)
    except (KernelError, NoSuchTask):
        started.end()
        return None


def _new_canaries(mm: MmAccess, pagemap: Pagemap, old: list[int]) -> list[int]:
    """After the clear: the pages that the next round is to find dirty; none when the bits do not obey.

    Those of the last round as a rule: to look for others takes longer than all else in the freeze.
    """
    canaries = old if canary.still(old, mm.ranges) else []
    before = [pagemap.entry(page) for page in canaries]
    if not all(entry & up.PM_PRESENT and not entry & up.PM_FILE for entry in before) or not canaries:
        able = ~_may_be_huge(mm)
        keys = [key for key, is_able in zip(mm.vma_keys, able.tolist(), strict=True) if is_able]
        canaries = canary.choose(pagemap, mm.ranges[able], keys)
        before = [pagemap.entry(page) for page in canaries]
    sung = canary.sing(mm, canaries)
    was_dirty = any(entry & up.PM_SOFT_DIRTY for entry in before)
    obeyed = not was_dirty and all(pagemap.entry(page) & up.PM_SOFT_DIRTY for page in sung)
    return sung if obeyed else []


def _may_be_huge(mm: MmAccess) -> Mask:
    """The rows that may be of hugetlbfs, whose pages pagemap shows without a soft-dirty bit after the first clear."""
    whole = (mm.ranges % _HUGE == 0).all(axis=1)
    return np.asarray(whole & ~spans.anonymous_rows(tuple(mm.vma_keys)), np.bool_)


def _identifying(entries: U64) -> Mask:
    """Which entries tell pages apart: not those of files, guard pages and the zero page."""
    keep = entries & np.uint64(up.PM_FILE | up.PM_GUARD_REGION) == 0
    keep &= entries & np.uint64(up.PM_PFRAME_MASK) != zero_page_frame()
    return np.asarray(keep, np.bool_)


def _samples(pages: U64, entries: U64) -> tuple[U64, U64]:
    """Pages spread over those of each 2 MiB that identify its page table, and what is behind them."""
    keep = _identifying(entries)
    pages, entries = pages[keep], entries[keep]
    if not len(pages):
        return pages, entries
    first = _firsts(pages // np.uint64(_CHUNK))
    count = np.diff(first, append=len(pages))
    at = (first[:, None] + np.arange(_SAMPLES) * count[:, None] // _SAMPLES).reshape(-1)
    at = at[_firsts(at)]
    return pages[at], entries[at] & _IDENTITY


def _firsts(values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Where each value of an ascending array begins; np.unique imports for 15 ms at its first call, in the freeze."""
    begins = np.ones(len(values), np.bool_)
    begins[1:] = values[1:] != values[:-1]
    return np.flatnonzero(begins)


def _trusted(pages: U64, entries: U64, fields: Mapping[str, Any]) -> Mask:
    """For each page whether a clean sample of its 2 MiB is where it was, and no clean one is not.

    A page that came after the clear is dirty, or no sample: whatever is clean was there, or was moved with its table.
    """
    sampled, identity = numbers(fields["sampled"]), numbers(fields["identity"])
    if not len(sampled) or not len(pages):
        return np.zeros(len(pages), np.bool_)
    at = np.minimum(np.searchsorted(pages, sampled), len(pages) - 1)
    now = entries[at]
    clean = (pages[at] == sampled) & (now & _SOFT_DIRTY == 0) & _identifying(now)
    same = now & _IDENTITY == identity
    chunks = sampled // np.uint64(_CHUNK)
    first = _firsts(chunks)
    good = np.logical_or.reduceat(clean & same, first) & ~np.logical_or.reduceat(clean & ~same, first)
    chunks = chunks[first][good]
    if not len(chunks):
        return np.zeros(len(pages), np.bool_)
    chunk = pages // np.uint64(_CHUNK)
    found = chunks[np.minimum(np.searchsorted(chunks, chunk), len(chunks) - 1)] == chunk
    return np.asarray(found, np.bool_)
