"""One file mapped shared at two overlapping offsets, and privately once more."""

import os

from target_api import DIR, PAGE, checkpoint, mmap, peek, poke, run


def main():
    fd = os.open(DIR / "data", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 8 * PAGE)
    one, two = mmap(4 * PAGE, 3, 1, fd), mmap(4 * PAGE, 1, 1, fd, 2 * PAGE)
    three = mmap(2 * PAGE, 3, 2, fd, 6 * PAGE)
    poke(one + 3 * PAGE, b"seen twice")
    poke(three, b"private")
    if checkpoint(lambda n: poke(one, b"%08d" % n)):
        poke(one + 3 * PAGE, b"tampered")
    assert peek(two + PAGE, 10) == b"seen twice"
    assert peek(three, 7) == b"private" and os.pread(fd, 7, 6 * PAGE) == bytes(7)
    poke(one + 2 * PAGE, b"new")
    assert peek(two, 3) == b"new"


run(main)
