"""The cut of a dump: how the bytes of one instant are had, and how long the tree stands still for it.

`frozen`: everything is copied while the tree stands still, to memory when that is little, else straight to the image.
`fork`: each address space is forked copy-on-write and read from there when the tree goes on; what a fork does not
carry over (shared objects, MADV_DONTFORK, MADV_WIPEONFORK, huge TLB pages) is copied to memory in the freeze; so are
private pages of files, for whoever truncates the file takes them from the fork, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from ckpt.engine.copying import Arena, Kept, Sink, copy_file, copy_task
from ckpt.engine.spaces import Space, as_spans, runs_of
from ckpt.errors import CkptError, NoSuchTask, TaskError
from ckpt.kernel import memory_room, procfs
from ckpt.records.base import Record
from ckpt.records.mm import MmRecord
from ckpt.records.runs import DATA, PAGE_SIZE, U64, PageRuns
from ckpt.records.seams import SpaceWriter
from ckpt.records.task import TaskRecord
from ckpt.trace import memory_copy, vforks
from ckpt.trace.deferral import deferred_signals
from ckpt.trace.freezer import FrozenTree
from ckpt.trace.memory_copy import MemoryCopy
from ckpt.trace.remote import LiveRemote
from ckpt.tracker import spans

HOW = ("auto", "fork", "frozen")
FORK, FROZEN = "fork", "frozen"
KEEP_PAGES = (128 << 20) // PAGE_SIZE
# Nanoseconds, from measurements: what decides between a fork and a copy in the freeze.
_FORK_SPACE, _FORK_PAGE = 1_500_000, 170
_COPY_PAGE, _COPY_FRESH_PAGE = 1_000, 6_000
# Bytes that a fork takes beside the page tables: for the two processes, and for each mapping.
_FORK_SPACE_BYTES, _FORK_VMA_BYTES = 1 << 20, 1 << 10
_NOT_FORKED = {"dc", "wf", "ht"}  # VmFlags: MADV_DONTFORK, MADV_WIPEONFORK, a copy of whose huge page may be taken away

Advance = Callable[[int], None]


@dataclass
class Cut:
    """Where the DATA pages of each space are to be had from; `close` ends what was forked."""

    how: str = FROZEN
    why: str | None = None  # why it is not the other
    kept: dict[str, Kept] = field(default_factory=dict)
    left: dict[str, PageRuns] = field(default_factory=dict)  # DATA pages that are not kept
    copies: dict[str, MemoryCopy] = field(default_factory=dict)
    held: bool = False  # everything is out of the tree's reach: it may go on
    exact: bool = True  # a page that cannot be read is an error; in a pre-dump it is one that went meanwhile
    memdump_ns: int = 0

    def close(self) -> None:
        for copy in self.copies.values():
            copy.end()

    def feed(self, space: Space, sink: SpaceWriter, advance: Advance) -> None:
        """All DATA pages of a space; they may be read until the sink is settled, and then `check` is due."""
        if space.key in self.kept:
            self.kept[space.key].replay(sink)
            advance(space.runs.count(DATA) - self.left[space.key].total)
        runs = self.left.get(space.key, space.runs.of(DATA))
        if not runs.total:
            return
        if copy := self.copies.get(space.key):
            copy_task(copy.pid, runs, sink, advance, shared=True, owner=space.pid)
        else:
            _copy(space, runs, sink, advance, exact=self.exact)

    def check(self) -> None:
        """Everything has been read: were the copies there until the end?"""
        for key, copy in self.copies.items():
            if not copy.intact():
                raise TaskError(
                    f"the copy-on-write copy of {key} (process {copy.pid}) was killed",
                    hint="memory may have run out: make room, or use --snapshot frozen",
                )

    def keep(self, spaces: Sequence[Space], apart: Mapping[str, U64], arena: Arena) -> None:
        """In the freeze: copy to memory what lies in `apart` (pages by space), and everything of shared objects."""
        started = time.perf_counter_ns()
        for space in spaces:
            data = as_spans(space.runs.of(DATA))
            here = data if space.fd >= 0 else spans.both(data, apart.get(space.key, spans.EMPTY))
            self.left[space.key] = runs_of(spans.minus(data, here), DATA)
            if len(here):
                self.kept[space.key] = Kept(arena)
                _copy(space, runs_of(here, DATA), self.kept[space.key], _ignore)
        self.held = True
        self.memdump_ns += time.perf_counter_ns() - started


def _ignore(pages: int) -> None:
    """Progress is not shown in a freeze."""


def _copy(space: Space, runs: PageRuns, sink: Sink, advance: Advance, *, exact: bool = True) -> None:
    """Pages of a space, from where it lives."""
    if space.fd >= 0:
        copy_file(space.fd, runs, sink, advance)
    else:
        copy_task(space.pid, runs, sink, advance, shared=space.shared, owner=space.pid if exact else 0)


def make(
    how: str, arena: Arena | None, tree: FrozenTree, spaces: Sequence[Space], records: Sequence[Record], leave: str
) -> Cut:
    """In the freeze, every state being collected: the cut for a dump after which the tree is left as `leave` says."""
    cut = Cut()
    if arena is None:  # the tree ends with the dump
        return cut
    to_copy = sum(space.runs.count(DATA) for space in spaces)
    if leave == "running":
        mms = [record for record in records if isinstance(record, MmRecord)]
        tasks = [record for record in records if isinstance(record, TaskRecord)]
        cut.why = _why_frozen(how, spaces, mms, tasks, to_copy)
        if cut.why is None:
            apart = {mm.space: _apart(mm) for mm in mms}
            try:
                try:
                    _fork(cut, tree, spaces)
                finally:
                    LiveRemote.put_back()  # what follows is read from the task itself
                cut.keep(spaces, apart, arena)
                return cut
            except CkptError as error:
                cut.close()
                cut = Cut()
                if how == FORK:
                    raise
                cut.why = f"the copy-on-write fork failed: {error.message}"
            except BaseException:
                cut.close()
                raise
    if to_copy <= KEEP_PAGES:
        cut.keep(spaces, {space.key: as_spans(space.runs.of(DATA)) for space in spaces}, arena)
    return cut


def _fork(cut: Cut, tree: FrozenTree, spaces: Sequence[Space]) -> None:
    cut.how = FORK
    for space in spaces:
        if space.fd < 0 and space.runs.count(DATA):
            with deferred_signals():
                remote = tree.tasks[space.pid].remote()
                assert isinstance(remote, LiveRemote)  # see _why_frozen
                cut.copies[space.key] = memory_copy.copy_memory(remote)


def _apart(mm: MmRecord) -> U64:
    """The pages of mappings that a fork does not carry over, or not for good."""
    rows = [
        (vma.start, vma.end)
        for vma in mm.vmas
        if not _NOT_FORKED.isdisjoint(vma.vm_flags) or (vma.backing == "file" and not vma.shared)
    ]
    return np.array(rows, np.uint64).reshape(-1, 2) // np.uint64(PAGE_SIZE)


def _why_frozen(
    how: str, spaces: Sequence[Space], mms: Sequence[MmRecord], tasks: Sequence[TaskRecord], to_copy: int
) -> str | None:
    """Why the pages are copied in the freeze; None when the address spaces are to be forked."""
    if how == FROZEN:
        return "asked for"
    memory = [space for space in spaces if space.fd < 0 and space.runs.count(DATA)]
    waiting = {task.pid for task in tasks for tid in task.tids[:1] if vforks.child_of(task.pid, tid)}
    for space in memory:
        if why := memory_copy.why_not(space.pid) or _adopted_inside(tasks, space.pid):
            return why
        if space.pid in waiting:
            return f"task {space.pid} waits in vfork"
    apart = sum(space.runs.count(DATA) for space in spaces if space.fd >= 0)
    by_key = {space.key: as_spans(space.runs.of(DATA)) for space in memory}
    for mm in mms:
        found = spans.both(by_key.get(mm.space, spans.EMPTY), _apart(mm))
        apart += int((found[:, 1] - found[:, 0]).sum())
    if apart > KEEP_PAGES:
        return f"{apart * PAGE_SIZE >> 20} MiB are in mappings that a fork does not carry over"
    populated = sum(space.runs.total for space in memory)
    fresh = max(0, to_copy - Arena.PAGES)
    copying = (to_copy - fresh) * _COPY_PAGE + fresh * _COPY_FRESH_PAGE
    if how != FORK and copying <= len(memory) * _FORK_SPACE + populated * _FORK_PAGE:
        return "there was less to copy than a fork takes"
    return _too_tight(tasks, {mm.space: len(mm.vmas) for mm in mms}, [space.pid for space in memory])


def _too_tight(tasks: Sequence[TaskRecord], nr_vmas: Mapping[str, int], pids: Sequence[int]) -> str | None:
    """Why the kernel may kill a task for want of memory while it is forked: until the copy is there, only the task is.

    Afterwards the copy is the first to go.
    """
    by_pid = {task.pid: task for task in tasks}
    need, groups = 0, set()
    for pid in pids:
        tables = procfs.status(pid, by_pid[pid].tids[0]).get("VmPTE", "0").split()[0]
        need += (int(tables) << 10) + _FORK_SPACE_BYTES + nr_vmas.get(f"mm:{pid}", 0) * _FORK_VMA_BYTES
        groups.add(by_pid[pid].attributes.cgroups)
    room = min([memory_room.available(), *map(memory_room.left, groups)])
    if need <= room:
        return None
    return f"a fork takes {need >> 10} KiB, and {max(room, 0) >> 10} KiB are left until memory runs out"


def _adopted_inside(tasks: Sequence[TaskRecord], pid: int) -> str | None:
    """Why an orphan of this task would be seen within the tree."""
    by_pid = {task.pid: task for task in tasks}
    while pid in by_pid:
        task = by_pid[pid]
        if procfs.status(pid).get("NSpid", "").split()[-1:] == ["1"]:
            return f"the copy would become a child of task {pid}, the init of its pid namespace"
        if task.attributes.child_subreaper:
            return f"the copy would become a child of task {pid}, a subreaper"
        pid = task.ppid
    return None


def check_intact(tree: FrozenTree) -> None:
    """Raise NoSuchTask when a task was killed in the freeze: its memory may have gone while it was copied."""
    for task in tree.tasks.values():
        tid = task.tids[0]
        state = "?"
        with suppress(NoSuchTask):
            state = procfs.state(task.pid, tid)
        if state != ("D" if task.held else "t"):
            raise NoSuchTask(f"task {task.pid} was killed while it was frozen")
