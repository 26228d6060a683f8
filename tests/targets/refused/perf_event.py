"""A performance counter of the task's own."""

import os
import struct

from target_api import Skip, checkpoint, libc, run


def main():
    attributes = struct.pack("<IIQ", 1, 112, 1).ljust(112, b"\0")  # PERF_TYPE_SOFTWARE, the CPU clock
    fd = libc.syscall(298, attributes, 0, -1, -1, 0)
    if fd < 0:
        raise Skip("no perf events for this user")
    checkpoint()
    assert len(os.read(fd, 8)) == 8


run(main)
