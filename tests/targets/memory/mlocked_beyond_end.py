"""Locked mappings whose pages cannot all be brought in: beyond the end of their object, and without access."""

import ctypes
import os
from pathlib import Path

from target_api import PAGE, checkpoint, libc, mmap, peek, poke, run


def locked(address):
    flags, here = "", False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first = line.split()[0]
        if "-" in first and not first.endswith(":"):
            here = int(first.split("-")[0], 16) <= address < int(first.split("-")[1], 16)
        elif here and first == "VmFlags:":
            flags = line.split()[1:]
    return "lo" in flags


def main():
    fd = os.memfd_create("short")
    os.ftruncate(fd, 2 * PAGE)
    area, closed = mmap(8 * PAGE, 3, 1, fd), mmap(4 * PAGE, 0)
    poke(area, b"here")
    for start, size in ((area, 8 * PAGE), (closed, 4 * PAGE)):
        libc.mlock(ctypes.c_long(start), ctypes.c_long(size))  # ENOMEM, and locked
        assert locked(start)
    if checkpoint():
        libc.munlock(ctypes.c_long(area), ctypes.c_long(8 * PAGE))
    assert locked(area) and locked(closed)
    assert peek(area, 4) == b"here"


run(main)
