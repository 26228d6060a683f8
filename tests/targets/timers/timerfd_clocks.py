"""timerfd on every clock: time left, interval, flags."""

import ctypes
import os

from target_api import checkpoint, libc, run


def main():
    files = {}
    for clock in (0, 1, 7, 8, 9):
        fd = libc.timerfd_create(clock, 0o4000 if clock == 1 else 0)
        if fd >= 0:
            libc.timerfd_settime(fd, 0, (ctypes.c_long * 4)(clock, 500, 2000 + clock, 0), None)
            files[fd] = clock
    off = libc.timerfd_create(1, 0o2000000)
    assert len(files) >= 3
    if checkpoint():
        libc.timerfd_settime(off, 0, (ctypes.c_long * 4)(0, 0, 9, 0), None)
    for fd, clock in files.items():
        now = (ctypes.c_long * 4)()
        assert libc.timerfd_gettime(fd, now) == 0
        assert now[0] == clock and now[1] == 500 and 1100 + clock < now[2] <= 2000 + clock, (clock, list(now))
        assert os.get_blocking(fd) == (clock != 1)
    now = (ctypes.c_long * 4)(9, 9, 9, 9)
    libc.timerfd_gettime(off, now)
    assert list(now) == [0, 0, 0, 0]


run(main)
