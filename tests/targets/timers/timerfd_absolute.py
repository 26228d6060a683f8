"""A timerfd at an absolute time that passes while the task is checkpointed, or soon after."""

import ctypes
import os
import select
import struct
import time

from target_api import checkpoint, libc, run


def main():
    fd, epoll = libc.timerfd_create(1, 0o4000), select.epoll()
    at = time.monotonic_ns() + 1_200_000_000
    libc.timerfd_settime(fd, 1, (ctypes.c_long * 4)(0, 0, at // 10**9, at % 10**9), None)
    epoll.register(fd, select.EPOLLIN)
    checkpoint()
    assert epoll.poll(20) == [(fd, select.EPOLLIN)]
    assert time.monotonic_ns() >= at
    assert struct.unpack("<Q", os.read(fd, 8))[0] == 1


run(main)
