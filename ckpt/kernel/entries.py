"""The pagemap entries of a whole address space, read in a freeze: no time is spent there on anything else."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from ckpt.kernel import uapi_pagemap as up
from ckpt.kernel.pagemap import Pagemap, covered, has_pagemap_scan
from ckpt.records.runs import PAGE_SIZE, U64

Block = tuple[int, U64, npt.NDArray[np.int64] | None]  # first page, entries, of which pages after the first (all: None)
Read = tuple[int, U64, bool]  # an address, room for the entries from there on, whether all of them are kept

_ENTRIES = 1 << 17  # entries in one read of pagemap: 512 MiB of addresses
_SHARE = 1 << 14  # when two threads read
_RAW_ENTRIES = 1 << 20  # entries that may wait to be sifted: those of 4 GiB
_THERE = np.uint64(up.PM_PRESENT | up.PM_SWAP)


class Helper:
    """A thread that does one thing beside its owner at a time; `begin` first of all. To hand over takes two locks."""

    def __init__(self, begin: Callable[[], object]) -> None:
        self._go, self._done = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._done.acquire()
        self._job: Callable[[], object] | None = None
        self._error: BaseException | None = None
        self._busy = False
        self._thread = threading.Thread(target=self._run, args=(begin,), daemon=True)
        self._thread.start()

    def _run(self, begin: Callable[[], object]) -> None:
        begin()
        while self._go.acquire() and self._job is not None:
            try:
                self._job()
            except BaseException as error:
                self._error = error
            self._done.release()

    def start(self, job: Callable[[], object]) -> None:
        """Hand over; `join` before the next."""
        self._job, self._busy = job, True
        self._go.release()

    def join(self) -> None:
        """Wait until it is done; raises what it failed with."""
        self._done.acquire()
        self._busy = False
        error, self._error = self._error, None
        if error is not None:
            raise error

    def end(self) -> None:
        """Let the thread go, when what it was given last is done."""
        if self._busy:
            self._done.acquire()
        self._job = None
        self._go.release()
        self._thread.join()


class Reading:
    """Parts that a helper begins to read at once; whoever asks for the blocks reads what is left together with it."""

    def __init__(self, reads: Sequence[Callable[[], Block]], helper: Helper) -> None:
        self._reads = reads
        self._helper = helper
        self._found: list[Block | None] = [None] * len(reads)
        self._todo = deque(range(len(reads)))
        helper.start(self._work)

    def _work(self) -> None:
        while True:
            try:
                at = self._todo.popleft()
            except IndexError:
                return
            self._found[at] = self._reads[at]()

    def blocks(self) -> list[Block]:
        """What each part gives, in order; what one of the two threads failed with is raised."""
        try:
            self._work()
        finally:
            self._helper.join()
        return [block for block in self._found if block is not None]

    def drop(self) -> None:
        """The blocks are not wanted."""
        self._todo.clear()
        self._helper.join()


class Room:
    """Memory for entries that has been touched before: new pages cost half of what reading into them does.

    What was read before a freeze is read again in it by the same plan, into the same memory. With a `helper` two
    threads read at a time.
    """

    def __init__(self, helper: Helper | None = None) -> None:
        self.helper = helper
        self._parts: list[U64] = []
        self._next = 0
        self._plans: dict[int, tuple[U64, list[Read]]] = {}  # by pid, with the spans that it is for
        self._used: set[int] = set()
        self._begun: tuple[int, U64, Reading] | None = None

    def plan(self, pagemap: Pagemap, spans: U64) -> list[Read]:
        """What to read for `spans` (bytes), into memory that is nobody else's until `reuse`."""
        own, reads = self._plans.get(pagemap.pid, (None, []))
        if own is not spans or pagemap.pid in self._used:
            reads = self._reads(pagemap.spans_to_read(spans))
            if not has_pagemap_scan():  # else what is to be read depends on what is there now
                self._plans[pagemap.pid] = spans, reads
        self._used.add(pagemap.pid)
        return reads

    def begin(self, pagemap: Pagemap) -> None:
        """Let the helper begin with what was planned for the task; `pagemap` must stay open until it is done."""
        own, reads = self._plans.get(pagemap.pid, (None, []))
        if self.helper is None or own is None or len(reads) < 2 or pagemap.pid in self._used:
            return
        self._used.add(pagemap.pid)
        self._begun = pagemap.pid, own, Reading([partial(_block, pagemap, *read) for read in reads], self.helper)

    def begun(self, pid: int, spans: U64) -> Reading | None:
        """What was begun for the task, if these are its spans still. Before the helper is given anything else."""
        begun, self._begun = self._begun, None
        if begun is None:
            return None
        if begun[0] == pid and begun[1] is spans:
            return begun[2]
        begun[2].drop()
        return None

    def _reads(self, spans: U64) -> list[Read]:
        most, raw = _SHARE if self.helper else _ENTRIES, _RAW_ENTRIES
        reads = []
        for start, end in spans.tolist():
            for at in range(start, end, most * PAGE_SIZE):
                nr_pages = min(most, (end - at) // PAGE_SIZE)
                raw -= nr_pages
                reads.append((at, self._take(nr_pages), raw >= 0))
        return reads

    def _take(self, nr_pages: int) -> U64:
        if self._next == len(self._parts):
            self._parts.append(np.empty(nr_pages, "<u8"))
        elif len(self._parts[self._next]) < nr_pages:
            self._parts[self._next] = np.empty(nr_pages, "<u8")
        self._next += 1
        return self._parts[self._next - 1][:nr_pages]

    def reuse(self) -> None:
        """From now on all of it may be given out again."""
        self._used.clear()
        if has_pagemap_scan():
            self._next = 0


def populated_entries(pagemap: Pagemap, spans: U64) -> tuple[U64, U64]:
    """(page numbers, entries) of every present or swapped page of `spans` (bytes), ascending."""
    return sifted(read_entries(pagemap, spans), spans)


def read_entries(pagemap: Pagemap, spans: U64, room: Room | None = None) -> list[Block]:
    """The entries of `spans` (bytes) for `sifted`.

    They lie in `room`, when it is given, as long as it is not used again.
    """
    room = room or Room()
    begun = room.begun(pagemap.pid, spans)
    if begun is not None:
        return begun.blocks()
    reads = [partial(_block, pagemap, *read) for read in room.plan(pagemap, spans)]
    if room.helper is None or len(reads) < 2:
        return [read() for read in reads]
    return Reading(reads, room.helper).blocks()


def _block(pagemap: Pagemap, at: int, out: U64, whole: bool) -> Block:
    entries = pagemap.entries(at, len(out), out)
    if whole:
        return at // PAGE_SIZE, entries, None
    index = np.flatnonzero(entries & _THERE)
    return at // PAGE_SIZE, entries[index], index


def sifted(blocks: Sequence[Block], spans: U64) -> tuple[U64, U64]:
    """What of `read_entries` is present or swapped: (page numbers, entries), ascending."""
    pages, values = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
    for first, entries, index in blocks:
        if index is None:
            index = np.flatnonzero(entries & _THERE)
            entries = entries[index]
        pages.append(index.astype(np.uint64) + np.uint64(first))
        values.append(entries)
    found, entry = np.concatenate(pages), np.concatenate(values)
    # spans_to_read merged over short holes, where other mappings may lie: keep only pages of `spans`.
    keep = covered(found * np.uint64(PAGE_SIZE), spans)
    return found[keep], entry[keep]
