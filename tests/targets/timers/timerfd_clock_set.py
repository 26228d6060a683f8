"""A timerfd that runs once and whose clock was set, which the kernel counts like an expiration: it has not expired.

The clock is the whole machine's: the count is set instead.
"""

import ctypes
import fcntl
import os
import struct
import time

from target_api import checkpoint, libc, run

ABSTIME, CANCEL, SET_TICKS = 1, 2, 0x40085400


def started():
    with open("/proc/self/stat") as stream:
        return stream.read().rpartition(")")[2].split()[19]


def main():
    first = started()
    fd = libc.timerfd_create(time.CLOCK_REALTIME, 0o4000)
    assert libc.timerfd_settime(fd, ABSTIME | CANCEL, struct.pack("<4q", 0, 0, int(time.time()) + 3000, 0), None) == 0
    fcntl.ioctl(fd, SET_TICKS, struct.pack("<Q", 1))
    tampered = checkpoint()
    room = ctypes.create_string_buffer(32)
    libc.timerfd_gettime(fd, room)
    assert 0 < struct.unpack("<4q", room.raw)[2] <= 3000
    if first == started():  # not restored: the kernel's own count
        assert os.read(fd, 8) == struct.pack("<Q", 1)
        assert not tampered
    elif not tampered:
        try:
            assert not os.read(fd, 8), "an expiration that never was"
        except BlockingIOError:
            pass
    else:
        raise AssertionError("it has expired")


run(main)
