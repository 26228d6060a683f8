"""POSIX timers on several clocks: ids, intervals, values and signals."""

import ctypes
import signal

from target_api import Skip, checkpoint, libc, run


class Event(ctypes.Structure):
    _fields_ = [("value", ctypes.c_long), ("signo", ctypes.c_int), ("notify", ctypes.c_int), ("pad", ctypes.c_long * 6)]


def create(clock, signo, value, notify=0):
    timer = ctypes.c_int(-1)
    event = Event(value, signo, notify)
    if libc.syscall(222, clock, ctypes.byref(event), ctypes.byref(timer)):
        raise Skip(f"no POSIX timers: {ctypes.get_errno()}")
    return timer.value


def settime(timer, seconds, interval):
    assert libc.syscall(223, timer, 0, (ctypes.c_long * 4)(interval, 0, seconds, 0), None) == 0


def gettime(timer):
    spec = (ctypes.c_long * 4)()
    assert libc.syscall(224, timer, spec) == 0, timer
    return spec[2], spec[0]


def main():
    number = signal.SIGRTMIN + 4
    spare = create(1, number, 0)
    wanted = {}
    for clock, seconds, interval, notify in [(1, 2000, 5, 0), (0, 3000, 0, 0), (7, 4000, 9, 1), (2, 5000, 1, 0)]:
        timer = create(clock, number, 100 + clock, notify)
        settime(timer, seconds, interval)
        wanted[timer] = (seconds, interval)
    off = create(1, number, 5)
    libc.syscall(226, spare)
    if checkpoint():
        settime(off, 100, 0)
    for timer, (seconds, interval) in wanted.items():
        left, every = gettime(timer)
        assert seconds - 900 < left <= seconds and every == interval, (timer, left, every)
    assert gettime(off) == (0, 0)
    assert libc.syscall(224, spare, (ctypes.c_long * 4)()) == -1
    last = max([*wanted, off])
    assert create(1, number, 0) > last, "timer ids start over"


run(main)
