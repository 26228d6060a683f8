"""What is to be copied in a round: for each address space and shared object its pages by kind."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from ckpt.errors import KernelError, NoSuchTask
from ckpt.kernel import ksm, pagemap, pinned, populated
from ckpt.kernel.entries import Helper, Room, read_entries
from ckpt.kernel.keeper import Mark
from ckpt.kernel.writers import Writers
from ckpt.records.runs import DATA, GUARD, PAGE_SIZE, PARENT, U64, ZERO, PageRuns
from ckpt.records.seams import Conclusion, DirtyTracker, ImageView, Seen
from ckpt.state.context import CollectContext
from ckpt.state.mm import Layout, Mm, shared_objects
from ckpt.state.unseen import open_object
from ckpt.trace.deferral import deferred_signals
from ckpt.trace.urgency import Urgency
from ckpt.tracker import canary, choice, spans
from ckpt.tracker.content_hash import ContentHash
from ckpt.tracker.soft_dirty import SoftDirty, new_witness
from ckpt.tracker.state import unpack
from ckpt.tracker.write_protect import HeldDescriptors, mark_of

MM = "mm:"  # begins the key of an address space; the pid of its task follows


@dataclass
class Space:
    """One space of the image: `pid` of a task whose memory it is, or `fd` of a shared object."""

    key: str
    runs: PageRuns
    pid: int = 0
    fd: int = -1
    shared: bool = False  # other tasks may have some of its pages, copy-on-write
    base: str = ""  # the space of the parent image that it is compared with, when that has another key


@dataclass
class Parents:
    """The parent image's DATA pages by space, looked up before the freeze."""

    data: dict[str, U64] = field(default_factory=dict)  # shape (n, 2): start and end page

    @classmethod
    def of(cls, view: ImageView | None) -> Parents:
        if view is None:
            return cls()
        return cls({key: as_spans(view.runs(key).of(DATA)) for key in view.spaces()})

    def base(self, key: str, above: Mapping[int, int]) -> str:
        """For a space that the parent image does not have, as its task was forked since: that of the nearest of the
        tasks `above` it (pid to pid) that it has. What is equal is found by comparing, so it need not be the right one.
        """
        if key in self.data or not key.startswith(MM):
            return ""
        pid = int(key.removeprefix(MM))
        for _ in above:
            pid = above.get(pid, 0)
            if f"{MM}{pid}" in self.data:
                return f"{MM}{pid}"
        return ""


def as_spans(runs: PageRuns) -> U64:
    """Runs as (start, end) pages, neighbours joined."""
    return pagemap.contiguous(np.stack([runs.start, runs.start + runs.nr_pages], axis=1).astype(np.uint64))


def runs_of(found: U64, kind: int) -> PageRuns:
    """Spans of pages as runs of one kind."""
    return PageRuns(found[:, 0].copy(), found[:, 1] - found[:, 0], np.full(len(found), kind, np.uint8))


def joined(parts: Sequence[PageRuns]) -> PageRuns:
    """Disjoint runs of several kinds in one ascending table."""
    start = np.concatenate([part.start for part in parts])
    order = np.argsort(start, kind="stable")
    return PageRuns(
        start[order],
        np.concatenate([part.nr_pages for part in parts])[order],
        np.concatenate([part.kind for part in parts])[order],
    )


def _look_populated(mm: Mm, seen: Seen | None) -> tuple[Callable[[], PageRuns], PageRuns]:
    """In the freeze: what gives the populated map later, and the guard pages of shared mappings."""
    guards = populated.guards(mm.pid, mm.shared_ranges)
    if seen is not None:
        return lambda: populated.of_entries(*seen()), guards
    return populated.look(mm.pid, mm.ranges, spans.anonymous_rows(tuple(mm.vma_keys))), guards


def _populated(mm: Mm, seen: Seen | None) -> tuple[PageRuns, PageRuns]:
    """The populated map, and the guard pages of shared mappings, as they are now; nothing when the task has ended."""
    try:
        there, guards = _look_populated(mm, seen)
        return there(), guards
    except NoSuchTask:
        return PageRuns.empty(), PageRuns.empty()


@dataclass
class Tracking:
    """The trackers of one round."""

    name: str
    states: dict[str, bytes]  # of the last round
    held: HeldDescriptors | None = None
    arms: bool = True  # whether another round is to come
    trackers: dict[str, DirtyTracker] = field(default_factory=dict)  # by space
    new_states: dict[str, bytes] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)  # as in Statistics
    room: Room = field(default_factory=Room)
    marks: dict[str, Mark | None] = field(default_factory=dict)  # of the last round's keepers, by space
    fresh: dict[str, Mark | None] = field(default_factory=dict)  # of new witnesses that no tracker has yet
    pins: dict[str, str | None] = field(default_factory=dict)  # by space, see pinned.holder; before the freeze
    scans: str | None = None  # of KSM, before the freeze
    dump: bool = False
    writers: Writers | None = None
    _own: pagemap.Pagemap | None = None  # of the root, while the helper reads from it

    def hire(self) -> None:
        """Before the freeze: what KSM has done until then, the way to ask for writers, and a thread that helps to read,
        where there is a processor for it."""
        self.scans = ksm.scans()
        if self.writers is None and (self.dump or self.name != ContentHash.name):
            with suppress(KernelError):
                self.writers = Writers()
        if self.name != SoftDirty.name or self.room.helper is not None or len(os.sched_getaffinity(0)) < 2:
            return
        self.room.helper = Helper(Urgency().start)

    def dismiss(self) -> None:
        """End that thread, what it has read from, and what was started for nothing."""
        if self.room.helper is not None:
            self.room.helper.end()
            self.room.helper = None
        if self._own is not None:
            self._own.close()
        if self.writers is not None:
            self.writers.close()
            self.writers = None
        for mark in self.fresh.values():  # the round failed before the looks, or the memory is that of another task
            if mark is not None:
                mark.keeper.end()
        self.fresh.clear()

    def rehearse(self, pid: int, layout: Layout) -> None:
        """Before the freeze: read what will be read in it, so that code and caches are warm; start a witness if none is
        left, so that others find it as soon as anything is cleared."""
        space = f"{MM}{pid}"
        self.marks[space] = mark_of(self.name, self.states.get(space))
        if self.arms:
            self.pins[space] = pinned.holder(pid)
        if self.writers is not None:
            self.writers.meet(pid)
        if self.name == SoftDirty.name:
            if self.arms and self.marks[space] is None:
                with deferred_signals():
                    self.fresh[space] = new_witness(pid)
            with pagemap.Pagemap(pid) as own:
                read_entries(own, layout.joined, self.room)
            fields, _ = unpack(self.name, self.states.get(space))
            canary.still(fields.get("canaries", []), layout.ranges)
        else:
            populated.look(pid, layout.ranges, spans.anonymous_rows(tuple(layout.vma_keys)))

    def begin(self, pid: int) -> None:
        """First of all in the freeze of a pre-dump, where nothing comes before the looks that changes pages."""
        if self.room.helper is not None:
            self._own = pagemap.Pagemap(pid)
            self.room.begin(self._own)

    def look(self, mm: Mm, *, exact: bool, arm: bool) -> Callable[[Parents], Space]:
        """In the freeze: what of an address space has been written, and, when `exact`, what of it is populated.

        The pages by kind are found when they are asked for, which may be after the thaw. A pre-dump's map, not
        `exact`, is taken then too: whatever is written or comes into being after the freeze is taken by the next
        round in any case, because it is not armed any more or never was. Without `arm` no other round is to come.
        """
        mark, fresh = self.marks.get(mm.space), self.fresh.pop(mm.space, None)
        tracker = choice.make(self.name, self.held, self.room, mark, fresh, self.scans)
        self.trackers[mm.space] = tracker
        mm.held, mm.writers = self.pins.get(mm.space), self.writers
        conclude = tracker.look(mm, self.states.get(mm.space), arm=arm)
        found: Callable[[], tuple[PageRuns, PageRuns]] = partial(_populated, mm, tracker.seen)
        if exact:
            there, guards = _look_populated(mm, tracker.seen)
            found = lambda: (there(), guards)  # noqa: E731
        return partial(self._space, mm, conclude, found)

    def _space(
        self, mm: Mm, conclude: Conclusion, look: Callable[[], tuple[PageRuns, PageRuns]], parents: Parents
    ) -> Space:
        clean, reason, state = conclude()
        there, guards = look()
        self.new_states[mm.space] = state
        if reason is not None and mm.space in self.states:
            self.lost.append(f"task {mm.pid}: {reason}")
        data = as_spans(there.of(DATA))
        parts = [there.of(ZERO), there.of(GUARD), guards]
        before = parents.data.get(mm.space)
        if clean is not None and before is not None and len(clean):
            same = spans.both(spans.both(data, clean), before)
            data = spans.minus(data, same)
            parts.append(runs_of(same, PARENT))
        shared = len(self.trackers) > 1 or ksm.merged_pages(mm.pid)
        return Space(mm.space, joined([*parts, runs_of(data, DATA)]), pid=mm.pid, shared=shared)

    def settle(self) -> None:
        """Before the image is committed."""
        for space, tracker in self.trackers.items():
            with deferred_signals():  # what is started must be known to `discard`
                state = tracker.settle()
            if state is not None:
                self.new_states[space] = state

    def discard(self, reason: str) -> None:
        for tracker in self.trackers.values():
            tracker.discard(reason)


def shared_spaces(mms: Sequence[Mm], context: CollectContext) -> list[Space]:
    """The shared memory objects that the tasks map, with a descriptor of each; tracked by content.

    One that this user cannot open was copied when a dump collected it; a pre-dump leaves it to the dump.
    """
    found = []
    for key, (mm, line) in shared_objects(mms).items():
        fd = open_object(context, mm.pid, line)
        if fd is not None:
            context.stack.callback(os.close, fd)
            found.append(Space(key, extents(fd), fd=fd))
    return found


def extents(fd: int) -> PageRuns:
    """The pages of a shared memory object that hold data (SEEK_DATA, SEEK_HOLE)."""
    status = os.fstat(fd)
    size = status.st_size if status.st_blocks else 0  # hugetlbfs says of every hole that it is data
    found: list[tuple[int, int]] = []
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:
            break  # ENXIO: nothing but a hole up to the end
        end = os.lseek(fd, start, os.SEEK_HOLE)
        found.append((start // PAGE_SIZE, -(-end // PAGE_SIZE)))
        at = max(end, at + 1)
    return runs_of(np.array(found, np.uint64).reshape(-1, 2), DATA)
