"""A shared file mapping stays coherent with the file, both ways."""

import mmap
import os

from target_api import DIR, PAGE, checkpoint, run


def main():
    fd = os.open(DIR / "data", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 4 * PAGE)
    area = mmap.mmap(fd, 4 * PAGE, mmap.MAP_SHARED)
    area[100:105] = b"first"
    if checkpoint(lambda n: area.__setitem__(slice(0, 8), b"%08d" % n)):
        area[100:105] = b"worst"
    assert area[100:105] == b"first"
    area[PAGE : PAGE + 3] = b"out"
    assert os.pread(fd, 3, PAGE) == b"out"
    os.pwrite(fd, b"in", 2 * PAGE)
    assert area[2 * PAGE : 2 * PAGE + 2] == b"in"


run(main)
