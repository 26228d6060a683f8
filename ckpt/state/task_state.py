"""What a process has beside its threads: collected in one go, restored early and late.

The order of a restore: threads, files; `early` in the bare task; memory; from here on remote syscalls without traps
(Skeleton.step_calls, for signals will be blocked) and with PTRACE_O_SUSPEND_SECCOMP where there is seccomp;
`threads.restore_thread` in each thread; `late`; `threads.restore_privileges` in each thread;
`prctl.restore_dumpable`; `threads.finish_threads`; detach.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ckpt.kernel import procfs
from ckpt.kernel import uapi_state as us
from ckpt.records.seams import RemoteTask
from ckpt.records.state import (
    Attributes,
    FsState,
    IntervalTimer,
    PosixTimer,
    ResourceLimit,
    SigAction,
    SigInfo,
)
from ckpt.records.task import TaskRecord, ThreadRecord
from ckpt.state import attributes, fs, limits, signals, timers
from ckpt.state.context import CollectContext, FrozenTaskLike
from ckpt.trace.skeleton import Skeleton

_ATTEMPTS = 4  # a timer of a shorter period than a look at it takes goes off in each of them, and its signal waits


@dataclass(frozen=True, slots=True)
class TaskState:
    """The fields of TaskRecord that are collected here, under their names."""

    fs: FsState
    sigactions: tuple[SigAction, ...]
    pending: tuple[SigInfo, ...]  # read last, by `settled`
    itimers: tuple[IntervalTimer, ...]
    posix_timers: tuple[PosixTimer, ...]
    rlimits: tuple[ResourceLimit, ...]
    attributes: Attributes


def collect_task_state(task: FrozenTaskLike, context: CollectContext) -> TaskState:
    """Some seventy remote syscalls in the first thread, 64 of them for its signal actions.

    The threads' registers and masks must have been read before (`threads.glance`).
    """
    tid = task.tids[0]  # not the pid when the leader has ended: its /proc files are empty then
    status = procfs.status(task.pid, tid)
    remote = task.remote(tid)
    return TaskState(
        fs=fs.collect_fs(task.pid, tid, status, context),
        sigactions=signals.collect_sigactions(remote),
        pending=(),
        itimers=timers.collect_itimers(remote),
        posix_timers=timers.collect_posix_timers(remote),
        rlimits=limits.collect_limits(tid),
        attributes=attributes.collect_attributes(remote),
    )


def settled(
    task: FrozenTaskLike, state: TaskState, threads: Sequence[ThreadRecord]
) -> tuple[TaskState, list[ThreadRecord]]:
    """Timers and pending signals of one moment: a timer that went off meanwhile has its signal, and no other does."""
    remote = task.remote(task.tids[0])
    if not state.itimers and not state.posix_timers:  # the signal of one that has gone off by then waits
        return replace(state, pending=_pending(remote, shared=True)), list(threads)
    told = {timer.notify_tid for timer in state.posix_timers if timer.notify == us.SIGEV_THREAD_ID}
    for _ in range(_ATTEMPTS):
        before = timers.collect_itimers(remote), timers.collect_posix_timers(remote)
        own = {tid: _pending(task.remote(tid), shared=False) for tid in task.tids if tid in told}
        shared = _pending(remote, shared=True)
        itimers, posix_timers = timers.collect_itimers(remote), timers.collect_posix_timers(remote)
        if not timers.gone_off(before[0], itimers) and not timers.gone_off(before[1], posix_timers):
            break
    posix_timers = timers.with_periods(remote, posix_timers, {0: shared, **own})
    state = replace(state, itimers=itimers, posix_timers=posix_timers, pending=shared)
    return state, [replace(thread, pending=own.get(thread.tid, thread.pending)) for thread in threads]


def _pending(remote: RemoteTask, *, shared: bool) -> tuple[SigInfo, ...]:
    return signals.collect_pending(remote, procfs.status(remote.pid, remote.tid), shared=shared)


def early(remote: RemoteTask, record: TaskRecord) -> None:
    """In the bare task, before memory and files: raised limits, what children inherit, directories, umask."""
    limits.raise_limits(remote, record.rlimits)
    attributes.restore_attributes_early(remote, record.attributes)
    if record.fs is not None:
        fs.restore_fs(remote, record.fs)


def late(
    leader: Skeleton, threads: Sequence[Skeleton], record: TaskRecord, pending: Sequence[Sequence[SigInfo]]
) -> None:
    """When memory, files, threads and zombies are complete, before any thread loses privileges.

    `threads`: those that live, `pending`: the queue of each; `leader`: the first one, which may be about to end.
    All signals of all threads are blocked from here until `threads.finish_threads`, for the timers tick again. Not
    earlier, because a child that ends must not be reaped by the task's own SIGCHLD action. An action that ignores a
    signal takes it out of every queue: actions come first.
    """
    for thread in (leader, *threads):
        signals.block_all(thread.tid)
    remote = threads[0]
    signals.restore_sigactions(remote, record.sigactions)
    queues = {0: record.pending} | {thread.tid: queue for thread, queue in zip(threads, pending, strict=True)}
    for thread in threads:
        own = timers.not_sent(queues[thread.tid], record.posix_timers, thread.tid)
        signals.restore_pending(thread, own, shared=False)
    attributes.restore_attributes_late(remote, record.attributes)
    timers.restore_posix_timers(threads, record.posix_timers, timers.senders(queues, record.posix_timers))
    # Only a thread whose tid is the pid may say that the kernel, or a timer, sent a signal to the process.
    signals.restore_pending(leader, timers.not_sent(record.pending, record.posix_timers), shared=True)
    timers.restore_itimers(remote, record.itimers, record.pending)
    limits.restore_limits(remote, record.rlimits)
