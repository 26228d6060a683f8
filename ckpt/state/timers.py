"""Interval timers (setitimer) and POSIX timers (timer_create). Both go on with the time that was left."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from ckpt.errors import KernelError, RestoreError
from ckpt.kernel import taskinfo, uapi
from ckpt.kernel import uapi_state as us
from ckpt.kernel.timer_memory import moments, periods_gone_by
from ckpt.records.seams import RemoteTask
from ckpt.records.state import IntervalTimer, PosixTimer, SigInfo
from ckpt.records.support import Support
from ckpt.state.rebuild import rebuilding
from ckpt.trace.skeleton import Skeleton

SUPPORT = Support(
    "timers",
    "timers",
    "interval and POSIX timers with what is left, or by the wall clock if set to a point of it",
    lost="without CAP_BPF, that they go by the wall clock; without it, and for a timer whose last signal had overruns, "
    "those of a signal that waits; PR_TIMER_CREATE_RESTORE_IDS; the CPU time used before (times, getrusage, clocks); "
    "when a task began, what it read, wrote and faulted (/proc/PID/stat, io)",
)

_US, _NS = 1_000_000, 1_000_000_000
_CLOCKS = (time.CLOCK_REALTIME, time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME, time.CLOCK_TAI)
_SOON_NS = 100_000_000  # a signal that waits may be late by this
_ATTEMPTS = 60
_MAX_TIMER_ID = 1 << 16  # without PR_TIMER_CREATE_RESTORE_IDS every id below costs two calls


_Timer = IntervalTimer | PosixTimer
Queues = Mapping[int, Sequence[SigInfo]]
"""The signals that wait for threads, by tid, and (0) for the process."""


def collect_itimers(remote: RemoteTask) -> tuple[IntervalTimer, ...]:
    """The armed ones among ITIMER_REAL, ITIMER_VIRTUAL and ITIMER_PROF."""
    found = []
    for which in us.ITIMERS:
        buffer = remote.put(bytes(us.itimerval.size))
        remote.syscall(uapi.SYS_getitimer, which, buffer)
        isec, iusec, sec, usec = us.itimerval.unpack(remote.read(buffer, us.itimerval.size))
        timer = IntervalTimer(which, isec * _US + iusec, sec * _US + usec)
        if timer.interval_us or timer.value_us:
            found.append(timer)
    return tuple(found)


def restore_itimers(remote: RemoteTask, record: Sequence[IntervalTimer], pending: Sequence[SigInfo]) -> None:
    """Late, with signals blocked and those that wait (`pending`) queued: they tick from here on.

    ITIMER_REAL is not set while its signal waits: whoever takes that sets it again. It goes off now, and adds none.
    """
    waits = any(int.from_bytes(entry.info[:4], "little") == signal.SIGALRM for entry in pending)
    for timer in record:
        value = timer.value_us or int(waits and timer.which == us.ITIMERS[0])
        raw = us.itimerval.pack(*divmod(timer.interval_us, _US), *divmod(value, _US))
        with rebuilding(remote.pid, f"interval timer {timer.which}"):
            remote.syscall(uapi.SYS_setitimer, timer.which, remote.put(raw), 0)


def collect_posix_timers(remote: RemoteTask) -> tuple[PosixTimer, ...]:
    """Every timer of /proc/PID/timers (CONFIG_CHECKPOINT_RESTORE), with what is left of it."""
    found = []
    for line in taskinfo.timers(remote.tid):
        buffer = remote.put(bytes(us.itimerspec.size))
        remote.syscall(uapi.SYS_timer_gettime, line.timer_id, buffer)
        isec, insec, sec, nsec = us.itimerspec.unpack(remote.read(buffer, us.itimerspec.size))
        found.append(
            PosixTimer(
                timer_id=line.timer_id,
                clock_id=line.clock_id,
                signo=line.signo,
                notify=line.notify,
                notify_tid=line.notify_tid,
                sigval=line.sigval,
                interval_ns=isec * _NS + insec,
                value_ns=sec * _NS + nsec,
                overrun=remote.syscall(uapi.SYS_timer_getoverrun, line.timer_id),
            )
        )
    return tuple(found)


def gone_off(before: Sequence[_Timer], after: Sequence[_Timer]) -> bool:
    """Whether a timer went off between two looks at them all."""
    if len(before) != len(after):
        return True
    pairs = [(_left(old), _left(new)) for old, new in zip(before, after, strict=True)]
    return any(new > old or (old and not new) for old, new in pairs)


def _left(timer: _Timer) -> int:
    return timer.value_us if isinstance(timer, IntervalTimer) else timer.value_ns


def _sender(entry: SigInfo, timers: Sequence[PosixTimer], tid: int) -> PosixTimer | None:
    _, _, code, timer_id = us.siginfo_timer.unpack_from(entry.info)
    if code != us.SI_TIMER:
        return None
    found = [t for t in timers if t.timer_id == timer_id and t.interval_ns and t.clock_id in _CLOCKS]
    notify = us.SIGEV_THREAD_ID if tid else us.SIGEV_SIGNAL
    return next((t for t in found if (t.notify, t.notify_tid) == (notify, tid)), None)


def senders(queues: Queues, timers: Sequence[PosixTimer]) -> list[PosixTimer]:
    """The timers that signals wait of and that send them again by themselves."""
    found = [_sender(entry, timers, tid) for tid, queue in queues.items() for entry in queue]
    return [timer for timer in found if timer is not None]


def with_periods(remote: RemoteTask, timers: Sequence[PosixTimer], queues: Queues) -> tuple[PosixTimer, ...]:
    """The timers, with the periods that have gone by since a signal waits, or the point in time they were set to."""
    waiting = senders(queues, timers)
    if any(_by_wall_clock(timer) and timer not in waiting for timer in timers):
        with suppress(KernelError):
            at = moments(remote.pid, remote.tid)
            timers = [
                replace(t, moment_ns=at.get(t.timer_id, 0)) if _by_wall_clock(t) and t not in waiting else t
                for t in timers
            ]
    if not waiting:
        return tuple(timers)
    try:
        known = periods_gone_by(remote.pid, remote.tid)
    except KernelError:
        return tuple(timers)
    return tuple(replace(t, gone_by=known.get(t.timer_id, 0)) if t in waiting else t for t in timers)


def _by_wall_clock(timer: PosixTimer) -> bool:
    return timer.clock_id == time.CLOCK_REALTIME and timer.value_ns > 0


def not_sent(pending: Sequence[SigInfo], timers: Sequence[PosixTimer], tid: int = 0) -> list[SigInfo]:
    """The signals waiting for thread `tid`, or (0) for the process, that come of no such timer."""
    return [entry for entry in pending if _sender(entry, timers, tid) is None]


def restore_posix_timers(
    threads: Sequence[Skeleton], record: Sequence[PosixTimer], waiting: Sequence[PosixTimer] = ()
) -> None:
    """Once every thread exists (SIGEV_THREAD_ID names one), in the order of the ids, in a task without timers.

    Before other signals are queued. The timers in `waiting` had sent a signal that nobody took yet: they are set to
    the expiry in the past of which it told, and send it again. A timer whose last signal had overruns is set so far
    back that it has as many again when that signal is taken, which is done here.

    A clock of "the calling thread" is taken for the one that is signalled, as the kernel does not tell who called.
    Timers of threads that have ended are made for a thread that ends at once.
    """
    timers = sorted(record, key=lambda timer: timer.timer_id)
    if not timers:
        return
    remote = threads[0]
    pid = remote.pid
    living = {thread.tid: thread for thread in threads}
    exact = _restore_ids(remote, on=True)
    for timer in timers:
        with rebuilding(pid, f"POSIX timer {timer.timer_id}"):
            _create_for(threads, timer, exact)
    if exact:
        _restore_ids(remote, on=False)
    for timer in timers:
        if timer.value_ns or timer.interval_ns:
            with rebuilding(pid, f"POSIX timer {timer.timer_id}"):
                _arm(remote, timer, timer in waiting, living.get(timer.notify_tid or remote.tid))


def _arm(remote: RemoteTask, timer: PosixTimer, waiting: bool, told: RemoteTask | None) -> None:
    """`told`: who takes its signals, None where a thread did that has ended."""
    back, counted = 0, False  # periods
    if timer.interval_ns and timer.clock_id in _CLOCKS and timer.value_ns:
        if (
            timer.overrun
            and told is not None
            and timer.notify != us.SIGEV_NONE
            and (not waiting or timer.interval_ns <= _SOON_NS)
        ):
            back, counted = timer.overrun + 1, True
        elif waiting:
            back = max(1, timer.gone_by)
    if timer.moment_ns and not back:
        raw = us.itimerspec.pack(*divmod(timer.interval_ns, _NS), *divmod(timer.moment_ns, _NS))
        remote.syscall(uapi.SYS_timer_settime, timer.timer_id, us.TIMER_ABSTIME, remote.put(raw), 0)
        return
    for attempt in range(_ATTEMPTS):
        # From the second on with a whole period to go: one goes by too easily when little of it is left.
        left = timer.interval_ns if attempt and timer.interval_ns <= _SOON_NS else timer.value_ns
        if not _set(remote, timer, left, back) or not counted or told is None:
            return
        mask = told.put((1 << (timer.signo - 1)).to_bytes(8, "little") + us.timespec.pack(1, 0))
        told.syscall(uapi.SYS_rt_sigtimedwait, mask, 0, mask + 8, 8)
        if remote.syscall(uapi.SYS_timer_getoverrun, timer.timer_id) == timer.overrun:
            return  # else a period went by meanwhile


def _set(remote: RemoteTask, timer: PosixTimer, left_ns: int, back: int) -> bool:
    """Arm the timer for what is left, less `back` periods; whether it has expired already."""
    value, flags = left_ns, 0
    if back:
        past = value + time.clock_gettime_ns(timer.clock_id) - back * timer.interval_ns
        if past > 0:  # else this host has not been up for as long
            value, flags = past, us.TIMER_ABSTIME
    raw = us.itimerspec.pack(*divmod(timer.interval_ns, _NS), *divmod(value, _NS))
    remote.syscall(uapi.SYS_timer_settime, timer.timer_id, flags, remote.put(raw), 0)
    return flags != 0


def _restore_ids(remote: RemoteTask, *, on: bool) -> bool:
    """Let timer_create take the id from its result's place; False before Linux 6.15 (ec2d0c04624b)."""
    mode = us.PR_TIMER_CREATE_RESTORE_IDS_ON if on else us.PR_TIMER_CREATE_RESTORE_IDS_OFF
    try:
        remote.syscall(uapi.SYS_prctl, us.PR_TIMER_CREATE_RESTORE_IDS, mode, 0, 0, 0)
    except KernelError:
        return False
    return True


def _create_for(threads: Sequence[Skeleton], timer: PosixTimer, exact: bool) -> None:
    living = {thread.tid: thread for thread in threads}
    to_thread = timer.notify == us.SIGEV_THREAD_ID
    to_dead = to_thread and timer.notify_tid not in living
    measured = us.clock_thread(timer.clock_id)
    if not to_dead and measured in (None, 0, *living):
        own = to_thread and measured == 0
        _create(living[timer.notify_tid] if own else threads[0], timer, exact)
        return
    with threads[0].passing_thread() as thread:
        clock = timer.clock_id if measured in (None, *living) else us.thread_clock(thread.tid, timer.clock_id)
        dead = replace(timer, clock_id=clock, notify_tid=thread.tid if to_dead else timer.notify_tid)
        _create(threads[0], dead, exact)


def _create(remote: RemoteTask, timer: PosixTimer, exact: bool) -> None:
    event = us.sigevent.pack(timer.sigval, timer.signo, timer.notify, timer.notify_tid)
    if not exact and timer.timer_id > _MAX_TIMER_ID:
        raise RestoreError(
            f"task {remote.pid}: POSIX timer {timer.timer_id} is too far from 0 to be counted up to",
            hint="restore on Linux 6.15 or newer, which creates timers with a given id",
        )
    while True:
        place = remote.put(timer.timer_id.to_bytes(8, "little"), 128)
        remote.syscall(uapi.SYS_timer_create, timer.clock_id, remote.put(event), place)
        made = int.from_bytes(remote.read(place, 4), "little")
        if made == timer.timer_id:
            return
        remote.syscall(uapi.SYS_timer_delete, made)
        if exact or made > timer.timer_id:
            raise RestoreError(f"task {remote.pid}: POSIX timer {timer.timer_id} became {made}")
