"""memfd_secret: memory that nobody else can read, so that it must be refused by name."""

import os

from target_api import PAGE, Skip, call, checkpoint, mmap, peek, poke, run


def main():
    try:
        fd = call("syscall", 447, 0)
    except OSError as error:
        raise Skip(f"no memfd_secret: {error}") from error
    os.ftruncate(fd, 2 * PAGE)
    area = mmap(2 * PAGE, 3, 1, fd)
    os.close(fd)
    poke(area, b"secret")
    checkpoint()
    assert peek(area, 6) == b"secret"


run(main)
