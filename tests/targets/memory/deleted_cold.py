"""A part of a deleted file, mapped shared and nothing else, whose pages lie on the disk and not in memory."""

import os

from target_api import DIR, PAGE, call, checkpoint, mmap, pattern, peek, poke, run

SIZE = 64 * PAGE


def main():
    path = DIR / "cold"
    path.write_bytes(pattern(1, SIZE))
    fd = os.open(path, os.O_RDWR)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    area = mmap(8 * PAGE, 3, 1, fd, 16 * PAGE)
    os.close(fd)
    path.unlink()
    if checkpoint():
        poke(area, b"tampered")
    assert peek(area, 8 * PAGE) == pattern(1, SIZE)[16 * PAGE : 24 * PAGE]
    area = call("mremap", area, 8 * PAGE, 48 * PAGE, 1, 0)
    assert peek(area, 48 * PAGE) == pattern(1, SIZE)[16 * PAGE :]


run(main)
