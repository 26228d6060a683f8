"""A timerfd that has expired and not been read keeps its ticks; a ticking one ticks on."""

import ctypes
import os
import select
import struct

from target_api import checkpoint, libc, run


def main():
    once, often = libc.timerfd_create(1, 0o4000), libc.timerfd_create(1, 0)
    libc.timerfd_settime(once, 0, (ctypes.c_long * 4)(0, 0, 0, 1), None)
    libc.timerfd_settime(often, 0, (ctypes.c_long * 4)(0, 20_000_000, 0, 20_000_000), None)
    select.select([once], [], [])
    if checkpoint():
        os.read(once, 8)
    assert struct.unpack("<Q", os.read(once, 8))[0] == 1
    assert struct.unpack("<Q", os.read(often, 8))[0] >= 1
    assert struct.unpack("<Q", os.read(often, 8))[0] >= 1


run(main)
