"""A counter in a shared mapped file that a child writes too, under a lock."""

import fcntl
import mmap
import os
import struct
import time

from target_api import DIR, PAGE, checkpoint, child, exit_code, run


def main():
    fd = os.open(DIR / "counter", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, PAGE)
    area = mmap.mmap(fd, PAGE)

    def add(at):
        fcntl.lockf(fd, fcntl.LOCK_EX)
        values = list(struct.unpack_from("<3Q", area))
        values[0] += 1
        values[at] += 1
        struct.pack_into("<3Q", area, 0, *values)
        fcntl.lockf(fd, fcntl.LOCK_UN)

    def other():
        add(2)  # once at least, however late it is
        while not (DIR / "go").exists():
            time.sleep(0.005)
            add(2)

    pid = child(other)
    if checkpoint(lambda n: add(1)):
        area[0] ^= 1
    assert exit_code(pid) == 0
    total, mine, its = struct.unpack_from("<3Q", area)
    assert total == mine + its and its > 0, (total, mine, its)


run(main)
