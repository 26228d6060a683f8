"""Pages of a private file mapping that were overwritten with zeros stay zero."""

import os

from target_api import DIR, PAGE, call, checkpoint, mmap, pattern, peek, poke, run


def main():
    fd = os.open(DIR / "data", os.O_RDWR | os.O_CREAT)
    os.write(fd, pattern(1, 8 * PAGE + 1000))
    area = mmap(10 * PAGE, 3, 2, fd)
    os.close(fd)
    poke(area + PAGE, bytes(2 * PAGE))
    poke(area + 8 * PAGE, bytes(PAGE))
    poke(area + 4 * PAGE, b"changed")
    poke(area + 5 * PAGE, bytes(PAGE))
    call("madvise", area + 5 * PAGE, PAGE, 4)  # MADV_DONTNEED: the file's bytes again
    call("mprotect", area + 2 * PAGE, PAGE, 1)
    expected = bytearray(pattern(1, 8 * PAGE) + bytes(PAGE))
    expected[PAGE : 3 * PAGE] = bytes(2 * PAGE)
    expected[4 * PAGE : 4 * PAGE + 7] = b"changed"
    if checkpoint():
        poke(area, b"tampered")
    assert peek(area, 9 * PAGE) == expected


run(main)
