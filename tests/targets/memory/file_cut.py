"""A file cut short below its mappings: the rest faults, and comes back when the file grows."""

import os

from target_api import DIR, PAGE, accessible, checkpoint, mmap, pattern, peek, poke, run


def main():
    fd = os.open(DIR / "data", os.O_RDWR | os.O_CREAT)
    os.write(fd, pattern(1, 8 * PAGE))
    private, shared = mmap(8 * PAGE, 3, 2, fd), mmap(8 * PAGE, 3, 1, fd)
    poke(private, pattern(2))
    poke(private + 6 * PAGE, pattern(3))
    os.ftruncate(fd, 3 * PAGE + 100)
    if checkpoint(lambda n: poke(shared + PAGE, b"%016d" % n)):
        poke(private, b"tampered")
    for area in (private, shared):
        assert [accessible(area + n * PAGE) for n in range(8)] == [True] * 4 + [False] * 4
    assert peek(private, PAGE) == pattern(2)
    assert peek(shared + 3 * PAGE, PAGE) == pattern(1, 100) + bytes(PAGE - 100)
    os.ftruncate(fd, 8 * PAGE)
    assert peek(private + 6 * PAGE, PAGE) == bytes(PAGE)
    poke(shared + 7 * PAGE, b"again")
    assert os.pread(fd, 5, 7 * PAGE) == b"again"


run(main)
