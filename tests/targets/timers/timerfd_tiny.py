"""A periodic timerfd whose interval is over before anybody can ask what is left of it."""

import os
import struct
import time

from target_api import call, checkpoint, libc, run

MONOTONIC, NONBLOCK, INTERVAL = 1, 0o4000, 1000


def main():
    fds = [call("timerfd_create", MONOTONIC, NONBLOCK) for _ in range(3)]
    for fd in fds:
        assert libc.timerfd_settime(fd, 0, struct.pack("<4q", 0, INTERVAL, 0, 1), None) == 0
    time.sleep(0.01)
    os.read(fds[1], 8)  # the others have never been read
    if checkpoint():
        libc.timerfd_settime(fds[0], 0, struct.pack("<4q", 0, 0, 0, 0), None)
    for fd in fds:
        for least in (100, 2):
            time.sleep(0.01)
            assert struct.unpack("<Q", os.read(fd, 8))[0] >= least


run(main)
