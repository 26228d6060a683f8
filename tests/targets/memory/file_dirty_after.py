"""A shared file mapping written to up to the dump: the file has the bytes, and the restore adds none of its own."""

import os

from target_api import DIR, PAGE, checkpoint, child, eventually, exit_code, mmap, pattern, peek, poke, run


def main():
    fd = os.open(DIR / "data", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 64 * PAGE)
    area = mmap(64 * PAGE, 3, 1, fd)
    poke(area, pattern(4, 32 * PAGE))
    pid = child(lambda: eventually(lambda: peek(area + 40 * PAGE, 1) == b"!") or poke(area + 41 * PAGE, b"?"))
    last = [0]

    def step(n):
        last[0] = n
        poke(area + 50 * PAGE, b"%016d" % n)

    if checkpoint(step):
        poke(area, b"tampered")
    assert os.pread(fd, 32 * PAGE, 0) == pattern(4, 32 * PAGE) == peek(area, 32 * PAGE)
    assert os.pread(fd, 16, 50 * PAGE) == b"%016d" % last[0]
    poke(area + 40 * PAGE, b"!")
    assert exit_code(pid) == 0 and os.pread(fd, 1, 41 * PAGE) == b"?"


run(main)
