"""A private mapping of a memfd: own pages where written, the object's elsewhere."""

import os

from target_api import PAGE, checkpoint, mmap, pattern, peek, poke, run


def main():
    fd = os.memfd_create("base")
    os.write(fd, pattern(11, 4 * PAGE))
    area = mmap(4 * PAGE, 3, 2, fd)
    poke(area, b"private")
    if checkpoint(lambda n: poke(area + PAGE, b"%08d" % n)):
        poke(area, b"tampered")
    assert peek(area, 7) == b"private"
    assert os.pread(fd, 4 * PAGE, 0) == pattern(11, 4 * PAGE)
    os.pwrite(fd, b"later", 2 * PAGE)
    assert peek(area + 2 * PAGE, 5) == b"later"


run(main)
