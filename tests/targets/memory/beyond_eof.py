"""A mapping longer than its file: readable up to the last page, the rest faults."""

import os

from target_api import DIR, PAGE, accessible, checkpoint, mmap, peek, poke, run


def main():
    fd = os.open(DIR / "short", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"a" * (PAGE + 10))
    private, shared = mmap(4 * PAGE, 3, 2, fd), mmap(4 * PAGE, 3, 1, fd)
    poke(private, b"mine")
    if checkpoint():
        os.ftruncate(fd, 4 * PAGE)
    for area in (private, shared):
        assert [accessible(area + n * PAGE) for n in range(4)] == [True, True, False, False]
    assert peek(private, 5) == b"minea" and peek(shared, 5) == b"aaaaa"


run(main)
