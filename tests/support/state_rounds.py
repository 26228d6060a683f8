"""A live target in an odd state, its records, and skeletons that are given them: the round trips of task state."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ckpt.errors import NotDumpable
from ckpt.kernel import procfs, uapi
from ckpt.kernel import ptrace_requests as ptrace
from ckpt.records.seams import RemoteTask
from ckpt.records.task import TaskRecord, ThreadRecord
from ckpt.state import prctl, task_state, threads
from ckpt.state.context import CollectContext, FrozenTaskLike
from ckpt.trace.freezer import freeze
from ckpt.trace.sigframe import RIP, unpack
from ckpt.trace.skeleton import Skeleton, reap
from ckpt.trace.spawn import spawn_skeleton

TARGET = Path(__file__).parent.parent / "targets" / "odd_state.py"
STUB = 0x200000
SUSPENDED = uapi.PTRACE_O_TRACESYSGOOD | uapi.PTRACE_O_EXITKILL | uapi.PTRACE_O_SUSPEND_SECCOMP


SYS_PAUSE = 34


def in_call(pid: int, number: int) -> bool:
    """Whether a task waits in this system call."""
    return Path(f"/proc/{pid}/syscall").read_text().startswith(f"{number} ")


@dataclass
class Collected:
    task: TaskRecord
    threads: list[ThreadRecord]
    dumpable: int


@contextmanager
def target(base: Path, *kinds: str, call: int = SYS_PAUSE) -> Iterator[int]:
    """The pid of a waiting tests/targets/odd_state.py."""
    ready = base / "odd"
    process = subprocess.Popen(
        [sys.executable, TARGET, ready, *kinds],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not (ready.exists() and ready.read_text() == "ready" and in_call(process.pid, call)):
            assert process.poll() is None, "the target failed"
            assert time.monotonic() < deadline, "the target does not come to its call"
            time.sleep(0.01)
        yield process.pid
    finally:
        process.kill()
        process.wait()


def collect(task: FrozenTaskLike) -> Collected:
    """The records of one task, put together as the engine does it."""
    context = CollectContext([task])
    seen = {tid: threads.glance(tid) for tid in task.tids}
    found = [threads.collect_thread(task, tid, context, seen[tid]) for tid in task.tids]
    state, found = task_state.settled(task, task_state.collect_task_state(task, context), found)
    if context.refusals:
        raise NotDumpable(context.refusals)
    record = TaskRecord(
        pid=task.pid,
        ppid=0,
        pgid=task.pid,
        sid=task.pid,
        tids=tuple(task.tids),
        state="alive",
        exit_code=0,
        exit_signal=17,
        stop_signal=0,
        mm_id=1,
        table_id=1,
        sighand_id=task.pid,
        fs_id=task.pid,
        fs=state.fs,
        sigactions=state.sigactions,
        pending=state.pending,
        itimers=state.itimers,
        posix_timers=state.posix_timers,
        rlimits=state.rlimits,
        attributes=state.attributes,
    )
    status = procfs.status(task.pid)
    return Collected(record, found, prctl.collect_dumpable(task.remote(), status))


def collect_from(pid: int) -> Collected:
    with freeze(pid, timeout=60) as tree:
        return collect(tree.tasks[pid])


def run_each(skeleton: Skeleton, calls: Sequence[Sequence[int]]) -> None:
    """LiveTask.run_all, for a task that is being built."""
    for nr, *args in calls:
        skeleton.attempt(nr, *args)


class Built:
    """Skeletons as a FrozenTaskLike."""

    def __init__(self, skeletons: list[Skeleton]) -> None:
        self.skeletons = {skeleton.tid: skeleton for skeleton in skeletons}
        for skeleton in skeletons:
            skeleton.run_all = partial(run_each, skeleton)  # type: ignore[attr-defined]
        self.pid = skeletons[0].pid
        self.tids = [skeleton.tid for skeleton in skeletons]

    def remote(self, tid: int | None = None) -> RemoteTask:
        return self.skeletons[self.tids[0] if tid is None else tid]


THREAD = uapi.CLONE_VM | uapi.CLONE_FS | uapi.CLONE_FILES | uapi.CLONE_SIGHAND | uapi.CLONE_THREAD | uapi.CLONE_SYSVSEM


def moved(want: Collected, tids: list[int]) -> Collected:
    """The records with the skeleton's pid and tids for the target's."""
    new = dict(zip(want.task.tids, tids, strict=True))
    timers = tuple(replace(t, notify_tid=new.get(t.notify_tid, 0)) for t in want.task.posix_timers)
    task = replace(want.task, pid=tids[0], pgid=tids[0], sid=tids[0], sighand_id=tids[0], fs_id=tids[0])
    task = replace(task, tids=tuple(tids), posix_timers=timers)
    found = [replace(t, pid=tids[0], tid=new[t.tid]) for t in want.threads]
    return Collected(task, found, want.dumpable)


@contextmanager
def rebuilt(want: Collected) -> Iterator[tuple[Built, Collected]]:
    """A skeleton taken through every step but the last, and the records it was given."""
    leader = spawn_skeleton(0, STUB)
    made = [leader]
    try:
        flags = uapi.MAP_PRIVATE | uapi.MAP_ANONYMOUS | uapi.MAP_FIXED
        pages = {t.rseq.address // 4096 * 4096 for t in want.threads if t.rseq}
        task_state.early(leader, moved(want, [leader.tid] * len(want.task.tids)).task)
        for page in pages:  # the kernel writes to the rseq area
            leader.syscall(uapi.SYS_mmap, page, 8192, 3, flags, -1, 0)
        made += [leader.clone(0, THREAD) for _ in want.threads[1:]]
        want = moved(want, [skeleton.tid for skeleton in made])
        for skeleton, record in zip(made, want.threads, strict=True):
            skeleton.step_calls()
            if record.seccomp:
                ptrace.setoptions(skeleton.tid, SUSPENDED)
        for skeleton, record in zip(made, want.threads, strict=True):
            threads.restore_thread(skeleton, record, want.task)
        task_state.late(leader, made, want.task, [record.pending for record in want.threads])
        for skeleton, record in zip(made, want.threads, strict=True):
            threads.restore_privileges(skeleton, record)
        prctl.restore_dumpable(leader, want.dumpable)
        yield Built(made), want
    finally:
        leader.kill()
        reap(made)


def assert_same(got: Collected, want: Collected) -> None:
    """Equal but for what cannot be: registers (not restored yet), running timers, cgroups of this session."""
    assert got.dumpable == want.dumpable
    for mine, theirs in zip(got.task.itimers, want.task.itimers, strict=True):
        # The kernel adds a tick (up to 10 ms) to the timers that count CPU time.
        assert 0 < mine.value_us <= theirs.value_us + (10_000 if mine.which else 0)
    for new, old in zip(got.task.posix_timers, want.task.posix_timers, strict=True):
        assert new == replace(old, value_ns=new.value_ns)
        assert 0 < new.value_ns <= old.value_ns or new.value_ns == old.value_ns == 0
    values = [timer.value_us for timer in want.task.itimers]
    itimers = tuple(replace(t, value_us=v) for t, v in zip(got.task.itimers, values, strict=True))
    task = replace(got.task, itimers=itimers, posix_timers=want.task.posix_timers)
    assert replace(task, attributes=want.task.attributes) == want.task
    assert replace(got.task.attributes, loginuid=0) == replace(want.task.attributes, loginuid=0)
    for thread, record in zip(got.threads, want.threads, strict=True):
        assert replace(thread, registers=record.registers, sigmask=record.sigmask) == record


def round_trip(base: Path, *kinds: str, call: int = SYS_PAUSE) -> Collected:
    with target(base, *kinds, call=call) as pid:
        want = collect_from(pid)
        with rebuilt(want) as (built, given):
            assert_same(collect(built), given)
            threads.finish_threads(given.task, given.threads)
            for record in given.threads:
                assert ptrace.getsigmask(record.tid) == record.sigmask
                gpr = ptrace.getregset(record.tid, uapi.NT_PRSTATUS)
                assert unpack(gpr)[RIP] == unpack(record.registers.gpr)[RIP]
                assert ptrace.getregset(record.tid, uapi.NT_X86_XSTATE) == record.registers.xstate
        return want
