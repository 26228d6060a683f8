"""One round: intent, freeze, look, thaw, copy, commit; and the undo of each step.

A pre-dump copies from the running tasks after the thaw. A dump copies while they stand still; when they go on
afterwards and little is to be copied, it is kept in memory first, so that they need not wait for the image.
"""

from __future__ import annotations

import os
import platform
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypedDict

from ckpt.chain.directory import Chain, ImageInfo
from ckpt.chain.round import Round
from ckpt.engine import cut as cuts
from ckpt.engine.collect import collect
from ckpt.engine.copying import Arena
from ckpt.engine.cut import Cut
from ckpt.engine.progress import Progress
from ckpt.engine.rehearsal import rehearse
from ckpt.engine.spaces import Parents, Space, Tracking, extents, shared_spaces
from ckpt.errors import CkptError, NoSuchTask, NotDumpable, NothingToBorrow, TaskError, UsageError, WrongChain
from ckpt.image import codec
from ckpt.image.sinks import open_file
from ckpt.kernel import procfs
from ckpt.kernel.descriptors import open_unnoticed
from ckpt.kernel.ownership import Owner
from ckpt.kernel.standins import entry
from ckpt.records.image import Statistics
from ckpt.records.runs import DATA
from ckpt.state import rings, sockets
from ckpt.state.context import CollectContext, DumpOptions
from ckpt.state.files.pipes import pipe_users
from ckpt.state.files.registry import registry
from ckpt.state.mm import address_spaces, identity, layout_of
from ckpt.state.outsiders import look_for_outsiders
from ckpt.state.tree import as_tasks
from ckpt.trace import gadgets
from ckpt.trace.arch import refuse_foreign_arch
from ckpt.trace.checks import check_task, inside
from ckpt.trace.deferral import deferred_signals
from ckpt.trace.freezer import FrozenTree, freeze
from ckpt.trace.remote import LiveRemote
from ckpt.tracker import choice
from ckpt.tracker.write_protect import HeldDescriptors

LEAVE = ("killed", "running", "stopped")


@dataclass
class Request:
    """What the caller wants of a round."""

    pid: int
    directory: Path
    kind: str  # pre-dump | dump
    tracker: str = "auto"
    leave: str = "running"
    snapshot: str = "auto"  # fork | frozen | auto: how the cut of a dump is made that leaves the tree running
    timeout: float = 5.0
    options: DumpOptions = field(default_factory=DumpOptions)
    progress: Progress | None = None
    held: HeldDescriptors | None = None
    shadow: str = "auto"  # image | off | auto: see Chain.begin
    owner: Owner | None = None  # of the directory, when it is another user's and we are root


_AGAIN = 8  # further attempts at a task in a state that passes
_BIRTHS = 10.0  # seconds of further attempts at a tree in which programs start that have no library yet
_LOOKS = 10


def run_round(request: Request) -> ImageInfo:
    """Make the next image of the chain; raises a CkptError with the tasks as they were and the chain as it was."""
    if request.leave not in LEAVE:
        raise UsageError(f"a task cannot be left {request.leave!r}", hint=f"one of {', '.join(LEAVE)}")
    if request.snapshot not in cuts.HOW:
        raise UsageError(f"a cut cannot be made by {request.snapshot!r}", hint=f"one of {', '.join(cuts.HOW)}")
    if not request.timeout > 0:  # nor not a number
        raise UsageError("--timeout must be more than 0")
    check_task(request.pid)
    name, _ = choice.choose(request.tracker)
    fresh = not os.path.isdir(request.directory)
    try:
        opener = request.owner.open if request.owner is not None else open_file
        with Chain.open(request.directory, create=True, opener=opener) as chain:
            rehearse(name, dump=request.kind == "dump")
            attempts, end = 0, time.monotonic() + _BIRTHS
            while True:
                try:
                    return _Round(request, chain, name).run()
                except NothingToBorrow as error:
                    if time.monotonic() > end or not gadgets.appear(error.pid):
                        raise
                except NotDumpable as error:
                    attempts += 1
                    if attempts > _AGAIN or not all(refusal.passing for refusal in error.refusals):
                        raise
                    time.sleep(0.05)
    except BaseException:
        if fresh:
            _remove_if_unused(request.directory)
        raise


def _remove_if_unused(directory: Path) -> None:
    """A directory made for a round that failed goes again, unless something of worth is in it."""
    try:
        names = {path.name for path in directory.iterdir()}
        if names <= {"lock", "journal"}:
            for name in names:
                (directory / name).unlink(missing_ok=True)
            directory.rmdir()
    except OSError:
        pass  # it was not made at all, or somebody else has put something there


class Who(TypedDict):
    """The task and the tracker, as the chain's journal asks for them."""

    pid: int
    start_time: int  # clock ticks since boot
    boot_id: str
    tracker: str


class _Round:
    def __init__(self, request: Request, chain: Chain, tracker: str) -> None:
        self.request = request
        self.chain = chain
        self.stat = procfs.stat(request.pid)
        self.who: Who = {
            "pid": request.pid,
            "start_time": self.stat.start_time,
            "boot_id": procfs.boot_id(),
            "tracker": tracker,
        }
        self.ends = request.kind == "dump" and request.leave == "killed"  # then nothing is armed
        self.tracking = Tracking(tracker, {}, request.held, not self.ends, dump=request.kind == "dump")
        self.owner = request.owner
        self.arena = Arena() if request.kind == "dump" and not self.ends else None

    def run(self) -> ImageInfo:
        try:
            return self._run()
        finally:
            self.tracking.dismiss()

    def _run(self) -> ImageInfo:
        chain, request = self.chain, self.request
        self._check_chain()
        reason = chain.full_reason(**self.who)
        journal = chain.journal()
        if journal is not None and journal.last is not None and not journal.pending:
            # Even when this round is a full one the trackers learn what they armed before, to let go of it.
            self.tracking.states = dict(journal.last.states)
        if self.owner is not None and not all(map(self.owner.may_read, tree_pids(request.pid))):
            self.owner = None  # what is in its memory is not for him
        writer = chain.begin(
            kind=request.kind,
            root_pid=request.pid,
            root_start_time=self.stat.start_time,
            boot_id=self.who["boot_id"],
            tracker=self.tracking.name,
            kernel_release=platform.release(),
            full_reason=reason,
            shadow=request.shadow,
            opener=self.owner.open if self.owner is not None else open_file,
        )
        with writer:
            parents = Parents.of(writer.parent)
            prepare(request.pid, self.tracking)
            if request.kind == "dump":
                codec.warm()
            chain.journal_intent(**self.who)
            try:
                statistics = self._frozen(writer, parents)
            except BaseException:
                if self.ends or not self.tracking.trackers:  # it was refused, say, before anything was armed
                    if journal is not None and not journal.pending:
                        chain.journal_withdraw()
                else:
                    self.tracking.discard("the round failed")
                raise
        tip = chain.rounds()[-1]
        return ImageInfo(tip.path, tip.size, tip.header, statistics)

    def _check_chain(self) -> None:
        """Refuse what has nothing to do with the state of the task."""
        rounds = self.chain.rounds()
        if rounds and rounds[-1].header.root_pid != self.request.pid:
            raise WrongChain(
                f"{self.request.directory} is the chain of task {rounds[-1].header.root_pid}, "
                f"not of task {self.request.pid}",
                hint="give each task a directory of its own (-D)",
            )
        check_outside(self.request.pid)

    def _frozen(self, writer: Round, parents: Parents) -> Statistics:
        request = self.request
        context = CollectContext([], request.options)
        if request.kind == "dump":
            context.shared["pipe:users"] = pipe_users()
            context.shared[rings.WRITERS] = self.tracking.writers
            look_for_outsiders(tree_pids(request.pid), context)
        with ExitStack() as after, freeze(request.pid, timeout=request.timeout) as tree:
            after.enter_context(context.stack)
            try:
                return self._taken(writer, parents, tree, context, after)
            except CkptError:
                if not tree.thawed_ns:
                    cuts.check_intact(tree)  # a task that was killed in the freeze fails in many ways
                raise

    def _taken(
        self, writer: Round, parents: Parents, tree: FrozenTree, context: CollectContext, after: ExitStack
    ) -> Statistics:
        request = self.request
        if request.kind == "pre-dump":
            self.tracking.begin(request.pid)
        refuse_foreign_arch(tree)
        if self.owner is not None and not all(map(self.owner.may_read, tree.tasks)):
            raise TaskError(f"the tree of task {request.pid} has just got rights that its user has not")
        context.tasks = as_tasks(tree)
        mms = address_spaces(context.tasks)
        if request.kind == "dump":
            tree.before_thaw = partial(sockets.release, context)
            # First of all: a refusal must come before anything is armed or cleared.
            collect(tree, mms, context)
        looks = [self.tracking.look(mm, exact=request.kind == "dump", arm=not self.ends) for mm in mms]
        shared = shared_spaces(mms, context)
        if request.kind == "dump":
            spaces = [look(parents) for look in looks] + shared
            spaces += _unmapped_objects(context, spaces)
            LiveRemote.put_back()  # its frame is not to be in the image
            cut = cuts.make(request.snapshot, self.arena, tree, spaces, context.records, request.leave)
            after.callback(cut.close)
            if cut.held:
                cuts.check_intact(tree)
                self._leave(tree)
            for record in context.records:
                writer.add(record)
        else:
            cut = Cut(exact=False)
            tree.thaw()
            spaces = [look(parents) for look in looks] + shared
        for space in spaces:
            space.base = parents.base(space.key, tree.parents)
        self._copy(writer, spaces, cut)
        if request.kind == "dump" and not cut.held:
            cuts.check_intact(tree)
        cut.close()
        return self._commit(writer, tree, spaces, context, cut)

    def _leave(self, tree: FrozenTree) -> None:
        if self.request.leave == "stopped":
            tree.stop()
        else:
            tree.thaw()

    def _copy(self, writer: Round, spaces: list[Space], cut: Cut) -> None:
        total = sum(space.runs.count(DATA) for space in spaces)
        done = 0

        def advance(pages: int) -> None:
            nonlocal done
            done += pages
            if self.request.progress is not None:
                self.request.progress("copy", done, total)

        started = time.perf_counter_ns()
        sinks = []
        for space in spaces:
            sinks.append(writer.space(space.key, space.runs, space.base))
            cut.feed(space, sinks[-1], advance)
            sinks[-1].close()
        for sink in sinks:
            sink.settle()
        cut.memdump_ns += time.perf_counter_ns() - started
        cut.check()
        if self.request.kind == "pre-dump" and _ended(self.request.pid):
            raise NoSuchTask(f"task {self.request.pid} ended while its pages were copied")

    def _commit(
        self, writer: Round, tree: FrozenTree, spaces: list[Space], context: CollectContext, cut: Cut
    ) -> Statistics:
        dump = self.request.kind == "dump"
        if not self.ends:
            self.tracking.settle()
        writer.track({} if self.ends else self.tracking.new_states)
        statistics = Statistics(
            freezing_time=tree.freezing_time,
            frozen_time=tree.frozen_time,
            snapshot=cut.how if dump else None,
            snapshot_reason=cut.why if dump else None,
            memdump_time=cut.memdump_ns // 1000,
            lost=tuple(self.tracking.lost),
            pages_scanned=sum(space.runs.total for space in spaces),
        )
        with deferred_signals():  # Ctrl-C comes before all of this or after it
            statistics = writer.commit(statistics)
            if dump and not tree.thawed_ns:
                if self.ends:
                    tree.kill()
                    sockets.keep(context)
                    self.tracking.discard("the task has ended")
                else:
                    self._leave(tree)
        return statistics


def _ended(pid: int) -> bool:
    """Not one that executes a program from a thread: until that has the first one's tid, it looks as if it had."""
    for _ in range(_LOOKS):
        try:  # its memory is gone a moment before its state tells
            if procfs.stat(entry(pid)).state not in "ZX" and procfs.maps_text(pid):
                return False
        except NoSuchTask:
            return True
        time.sleep(0.002)
    return True


def _unmapped_objects(context: CollectContext, spaces: list[Space]) -> list[Space]:
    """What else travels as pages: memfds that only a descriptor holds, deleted files that are mapped."""
    known = {space.key for space in spaces}
    holders: dict[str, int | None] = {key: record.file_id for key, record in context.shared.get("shm", {}).items()}
    found = []
    for key, file_id in (holders | context.shared.get("contents", {})).items():
        if key in known or file_id is None:
            continue
        fd = registry(context).views[file_id].steal(context)
        readable = open_unnoticed(f"/proc/self/fd/{fd}")
        context.stack.callback(os.close, readable)
        found.append(Space(key, extents(readable), fd=readable))
    return found


def check_outside(root: int) -> None:
    """Refuse a tree that ckpt itself is in."""
    if os.getpid() in tree_pids(root):
        raise inside(root)


def tree_pids(root: int) -> list[int]:
    """The pids of a running tree, as far as they can be seen without a freeze."""
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        try:
            todo += procfs.children(pid, procfs.threads(pid))
        except CkptError:
            continue
        found.append(pid)
    return found


def prepare(root: int, tracking: Tracking | None = None) -> None:
    """What the freeze would otherwise have to wait for: the parse of the mappings, the look for code that remote
    syscalls borrow, and whatever is slow the first time."""
    if tracking is not None:
        tracking.hire()
    for pid in tree_pids(root):
        try:  # in the order in which the freeze will find them, so that each room is large enough
            layout, _ = layout_of(procfs.maps_text(pid)), identity(pid)
            if tracking is not None:
                tracking.rehearse(pid, layout)
            gadgets.find(pid, layout.lines)
        except CkptError:
            continue  # said again, with its reason, when a remote syscall is needed
    if tracking is not None:
        tracking.room.reuse()
