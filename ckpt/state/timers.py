"""Interval timers (setitimer) and POSIX timers (timer_create). Both go on with the time that was left."""

from __future__ import annotations

from collections.abc import Sequence

from ckpt.errors import KernelError, RestoreError
from ckpt.kernel import taskinfo, uapi
from ckpt.kernel import uapi_state as us
from ckpt.records.seams import RemoteTask
from ckpt.records.state import IntervalTimer, PosixTimer
from ckpt.records.support import Support
from ckpt.state.rebuild import rebuilding

SUPPORT = Support("timers", "timers", "interval and POSIX timers with what is left", lost="overruns")

_US, _NS = 1_000_000, 1_000_000_000
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


def restore_posix_timers(remote: RemoteTask, record: Sequence[PosixTimer]) -> None:
    """Once every thread exists (SIGEV_THREAD_ID names one), in the order of the ids, in a task without timers.

    An overrun that was counted but not yet read is lost, for no call sets it.
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
            raw = us.itimerspec.pack(*divmod(timer.interval_ns, _NS), *divmod(timer.value_ns, _NS))
            with rebuilding(pid, f"POSIX timer {timer.timer_id}"):
                remote.syscall(uapi.SYS_timer_settime, timer.timer_id, 0, remote.put(raw), 0)


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
