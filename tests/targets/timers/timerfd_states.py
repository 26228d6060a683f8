"""timerfds of every clock: absolute and relative, cancelled on a clock change, expired and unread, a blocked reader."""

import ctypes
import os
import struct
import time

from target_api import checkpoint, child, exit_code, libc, run

ABSTIME, CANCEL = 1, 2


def create(clock):
    return libc.timerfd_create(clock, 0o4000)


def arm(fd, value, interval=0.0, flags=0):
    spec = struct.pack("<4q", int(interval), int(interval % 1 * 1e9), int(value), int(value % 1 * 1e9))
    assert libc.timerfd_settime(fd, flags, spec, None) == 0


def left(fd):
    room = ctypes.create_string_buffer(32)
    libc.timerfd_gettime(fd, room)
    interval, interval_ns, value, value_ns = struct.unpack("<4q", room.raw)
    return interval + interval_ns / 1e9, value + value_ns / 1e9


def info(fd):
    with open(f"/proc/self/fdinfo/{fd}") as stream:
        return {line.split(":")[0]: line.split(":")[1].strip() for line in stream if "(" not in line}


def main():
    clocks = [time.CLOCK_REALTIME, time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME, 8, 9]
    relative = [fd for clock in clocks if (fd := create(clock)) >= 0]
    for fd in relative:
        arm(fd, 10000, 50)
    absolute = [create(clock) for clock in clocks[:3]]
    for clock, fd in zip(clocks, absolute, strict=False):
        arm(fd, time.clock_gettime(clock) + 20000, 0, ABSTIME)
    cancel = create(time.CLOCK_REALTIME)
    arm(cancel, time.time() + 30000, 0, ABSTIME | CANCEL)
    expired, ticking, disarmed = create(1), create(1), create(0)
    arm(expired, 0.01)
    arm(ticking, 0.01, 40000)
    waited = libc.timerfd_create(1, 0)

    def wait():
        arm(waited, 1.5)
        return int.from_bytes(os.read(waited, 8), "little")

    pid = child(wait)
    time.sleep(0.1)
    before = {fd: info(fd) for fd in [*relative, *absolute, cancel, expired, ticking, disarmed]}
    if checkpoint():
        arm(disarmed, 5)
    after = {fd: info(fd) for fd in before}
    for fd in absolute[1:]:  # what was left counts: the time itself may mean another moment elsewhere
        before[fd].pop("settime flags")
        after[fd].pop("settime flags")
    assert before == after, (before, after)
    for fd in relative:
        interval, value = left(fd)
        assert interval == 50 and 9000 < value < 10000, (interval, value)
    assert all(19000 < left(fd)[1] < 20000 for fd in absolute) and 29000 < left(cancel)[1] < 30000
    assert left(disarmed) == (0, 0)
    assert [int.from_bytes(os.read(fd, 8), "little") for fd in (expired, ticking)] == [1, 1]
    assert 39000 < left(ticking)[1] < 40000
    assert exit_code(pid) == 1


run(main)
