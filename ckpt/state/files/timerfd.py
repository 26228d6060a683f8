"""timerfd_create(2): clock, what is left, interval, and expirations that nobody has read."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import time

from ckpt.kernel import fdinfo, uapi_files
from ckpt.kernel.libc import syscall
from ckpt.records.base import Record
from ckpt.records.file_kinds import TimerFd
from ckpt.records.files import FileRecord
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files.base import FileView

SUPPORT = Support(
    "timers",
    "timerfd",
    "clock, what is left, interval, expirations not read; lost: that somebody has set the clock (ECANCELED, "
    "TFD_TIMER_CANCEL_ON_SET) and the reader has not heard of it yet",
)

_REAL_CLOCKS = (0, 8)  # CLOCK_REALTIME, CLOCK_REALTIME_ALARM
_BILLION = 1_000_000_000
_LOOKS, _NEAR = 5, 100_000  # looks at a timer, of which one that took so few ns is good enough


class TimerFds:
    """anon_inode:[timerfd]"""

    kind = "timerfd"

    def recognises(self, view: FileView) -> bool:
        return view.link == "anon_inode:[timerfd]"

    def collect(self, view: FileView, context: CollectContext) -> Record:
        info = view.info
        value, interval = _pair(info["it_value"][0]), _pair(info["it_interval"][0])
        if interval and not value and int(info["ticks"][0]):
            # An expired periodic timer stands still until somebody reads it or asks for its time. Asking lets
            # the kernel count the periods missed, which the reader sees all the same.
            # With a tiny interval nothing is left again; 0 would disarm it.
            with view.stolen(context) as fd:
                value = max(_ask(fd), 1)
            info = fdinfo.read_info(view.pid, view.fd)
        clock = int(info["clockid"][0])
        flags = int(info["settime flags"][0], 8)
        absolute = flags & uapi_files.TFD_TIMER_ABSTIME and clock in _REAL_CLOCKS and value
        deadline = _deadline(view) if absolute else 0
        ticks = int(info["ticks"][0])
        if not interval:  # the kernel counts a clock that was set, too
            ticks = 0 if value else min(ticks, 1)
        return TimerFd(clock, ticks, flags, value, interval, deadline)

    def restore(self, file: FileRecord, context: RestoreContext) -> int:
        payload: TimerFd = file.payload
        fd = syscall("timerfd_create", uapi_files.SYS_timerfd_create, payload.clock_id, os.O_CLOEXEC)
        if payload.value_ns or payload.interval_ns:
            # An absolute time of a clock that starts at boot means nothing after one: what was left counts.
            # settime flags can only be kept when the time is absolute.
            absolute = bool(payload.deadline_ns)
            spec = _spec(payload.interval_ns, payload.deadline_ns if absolute else payload.value_ns)
            flags = payload.settime_flags if absolute else 0
            syscall("timerfd_settime", uapi_files.SYS_timerfd_settime, fd, flags, spec, 0)
        if payload.ticks:
            fcntl.ioctl(fd, uapi_files.TFD_IOC_SET_TICKS, struct.pack("<Q", payload.ticks))
        return fd


def _deadline(view: FileView) -> int:
    """When a timer of the real-time clock goes off, in ns: what is left, by the clock of that very moment."""
    found: list[tuple[int, int]] = []
    for _ in range(_LOOKS):
        before = time.clock_gettime_ns(time.CLOCK_REALTIME)
        left = _pair(fdinfo.read_info(view.pid, view.fd)["it_value"][0])
        now = time.clock_gettime_ns(time.CLOCK_REALTIME)
        found.append((now - before, now + left))
        if now - before < _NEAR:
            break
    return min(found)[1]


def _pair(text: str) -> int:
    found = re.fullmatch(r"\((\d+), (\d+)\)", text)
    return int(found[1]) * _BILLION + int(found[2]) if found else 0


def _spec(interval: int, value: int) -> bytes:
    """struct itimerspec."""
    return struct.pack("<4q", *divmod(interval, _BILLION), *divmod(value, _BILLION))


def _ask(fd: int) -> int:
    import ctypes

    buffer = ctypes.create_string_buffer(32)
    syscall("timerfd_gettime", uapi_files.SYS_timerfd_gettime, fd, buffer)
    _, _, seconds, nanoseconds = struct.unpack("<4q", buffer.raw)
    return int(seconds * _BILLION + nanoseconds)


KIND = TimerFds()
