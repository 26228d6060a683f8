"""A private file mapping: some pages written, the others still the file's."""

import os

from target_api import DIR, PAGE, checkpoint, mmap, pattern, peek, poke, run


def main():
    path = DIR / "data"
    path.write_bytes(pattern(5, 8 * PAGE))
    fd = os.open(path, os.O_RDONLY)
    area = mmap(8 * PAGE, 3, 2, fd)
    os.close(fd)
    poke(area + 2 * PAGE, b"mine")
    peek(area + 4 * PAGE, 1)
    step = lambda n: poke(area + 6 * PAGE, b"%08d" % n)  # noqa: E731
    if checkpoint(step):
        poke(area + 3 * PAGE, b"oops")
    expected = bytearray(pattern(5, 8 * PAGE))
    expected[2 * PAGE : 2 * PAGE + 4] = b"mine"
    expected[6 * PAGE : 6 * PAGE + 8] = peek(area + 6 * PAGE, 8)
    assert peek(area, 8 * PAGE) == bytes(expected)
    assert path.read_bytes() == pattern(5, 8 * PAGE)


run(main)
