"""Mappings, shared and private, of a file that has been deleted."""

import mmap
import os

from target_api import DIR, PAGE, checkpoint, pattern, run


def main():
    path = DIR / "gone"
    path.write_bytes(pattern(6, 4 * PAGE))
    fd = os.open(path, os.O_RDWR)
    shared = mmap.mmap(fd, 4 * PAGE)
    private = mmap.mmap(fd, 4 * PAGE, mmap.MAP_PRIVATE)
    os.unlink(path)
    os.close(fd)
    shared[0:4] = b"both"
    private[PAGE : PAGE + 4] = b"mine"
    if checkpoint():
        shared[8] ^= 1
    expected = b"both" + pattern(6, 4 * PAGE)[4:]
    assert shared[:] == expected
    assert private[PAGE : PAGE + 4] == b"mine" and private[2 * PAGE :] == expected[2 * PAGE :]
    assert not path.exists()


run(main)
