"""Mappings of a sparse file beyond 4 GiB, private and shared."""

import os

from target_api import DIR, PAGE, checkpoint, mmap, pattern, peek, poke, run

FAR = (5 << 30) + 3 * PAGE


def main():
    fd = os.open(DIR / "data", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 6 << 30)
    os.pwrite(fd, pattern(1, 2 * PAGE), FAR)
    private, shared = mmap(4 * PAGE, 3, 2, fd, FAR), mmap(4 * PAGE, 3, 1, fd, FAR)
    poke(private + PAGE, b"mine")
    if checkpoint(lambda n: poke(shared + 3 * PAGE, b"%016d" % n)):
        poke(private, b"tampered")
    assert peek(private, PAGE + 4) == pattern(1) + b"mine"
    assert peek(shared, 2 * PAGE) == pattern(1, 2 * PAGE)
    poke(shared + 2 * PAGE, b"far")
    assert os.pread(fd, 3, FAR + 2 * PAGE) == b"far"


run(main)
