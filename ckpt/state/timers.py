"""Interval timers (setitimer) and POSIX timers (timer_create). Both go on with the time that was left."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ckpt.errors import KernelError, RestoreError
from ckpt.kernel import taskinfo, uapi
from ckpt.kernel import uapi_state as us
from ckpt.records.seams import RemoteTask
from ckpt.records.state import IntervalTimer, PosixTimer, SigInfo
from ckpt.records.support import Support
from ckpt.state.rebuild import rebuilding

SUPPORT = Support(
    "timers",
    "timers",
    "interval and POSIX timers with what is left",
    lost="overruns of a signal that waits; the CPU time used before (times, getrusage, CPU clocks)",
)

_US, _NS = 1_000_000, 1_000_000_000
_CLOCKS = (time.CLOCK_REALTIME, time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME, time.CLOCK_TAI)
_SOON_NS = 100_000_000  # a signal that waits may be late by this
_ATTEMPTS = 20
_MAX_TIMER_ID = 1 << 16  # without PR_TIMER_CREATE_RESTORE_IDS every id below costs two calls


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


def restore_itimers(remote: RemoteTask, record: Sequence[IntervalTimer]) -> None:
    """Late, with signals blocked: they tick from here on."""
    for timer in record:
        raw = us.itimerval.pack(*divmod(timer.interval_us, _US), *divmod(timer.value_us, _US))
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


def _sender(entry: SigInfo, timers: Sequence[PosixTimer]) -> PosixTimer | None:
    _, _, code, timer_id = us.siginfo_timer.unpack_from(entry.info)
    if code != us.SI_TIMER:
        return None
    found = [t for t in timers if t.timer_id == timer_id and t.interval_ns and t.clock_id in _CLOCKS]
    return next((t for t in found if t.notify == us.SIGEV_SIGNAL), None)


def senders(pending: Sequence[SigInfo], timers: Sequence[PosixTimer]) -> list[PosixTimer]:
    """The timers that signals wait of and that send them again by themselves."""
    return [timer for entry in pending if (timer := _sender(entry, timers)) is not None]


def not_sent(pending: Sequence[SigInfo], timers: Sequence[PosixTimer]) -> list[SigInfo]:
    """The waiting signals that come of no such timer."""
    return [entry for entry in pending if _sender(entry, timers) is None]


def restore_posix_timers(remote: RemoteTask, record: Sequence[PosixTimer], waiting: Sequence[PosixTimer] = ()) -> None:
    """Once every thread exists (SIGEV_THREAD_ID names one), in the order of the ids, in a task without timers.

    Before other signals are queued. The timers in `waiting` had sent a signal that nobody took yet: they are set to
    an expiry in the past, and send it again; its overruns count from here. A timer whose last signal had overruns is
    set so far back that it has as many again when that signal is taken, which is done here.
    """
    timers = sorted(record, key=lambda timer: timer.timer_id)
    if not timers:
        return
    pid = remote.pid
    exact = _restore_ids(remote, on=True)
    for timer in timers:
        with rebuilding(pid, f"POSIX timer {timer.timer_id}"):
            _create(remote, timer, exact)
    if exact:
        _restore_ids(remote, on=False)
    for timer in timers:
        if timer.value_ns or timer.interval_ns:
            with rebuilding(pid, f"POSIX timer {timer.timer_id}"):
                _arm(remote, timer, timer in waiting)


def _arm(remote: RemoteTask, timer: PosixTimer, waiting: bool) -> None:
    back = 0  # periods
    if timer.interval_ns and timer.clock_id in _CLOCKS and timer.value_ns:
        if timer.overrun and timer.notify == us.SIGEV_SIGNAL and (not waiting or timer.interval_ns <= _SOON_NS):
            back = timer.overrun + 1
        elif waiting:
            back = 1
    for _ in range(_ATTEMPTS):
        if not _set(remote, timer, back) or back == 1:
            return
        mask = remote.put((1 << (timer.signo - 1)).to_bytes(8, "little") + us.timespec.pack(1, 0))
        remote.syscall(uapi.SYS_rt_sigtimedwait, mask, 0, mask + 8, 8)
        if remote.syscall(uapi.SYS_timer_getoverrun, timer.timer_id) == timer.overrun:
            return  # else a period went by meanwhile


def _set(remote: RemoteTask, timer: PosixTimer, back: int) -> bool:
    """Arm the timer for what is left, less `back` periods; whether it has expired already."""
    value, flags = timer.value_ns, 0
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
