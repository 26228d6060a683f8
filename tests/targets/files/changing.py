"""A file that grows, shrinks and is rewritten while the rounds go on."""

import os

from target_api import DIR, checkpoint, run


def main():
    fd = os.open(DIR / "data", os.O_RDWR | os.O_CREAT)
    size = 0

    def step(n):
        nonlocal size
        size = n * 31 % 100
        os.ftruncate(fd, size)
        os.pwrite(fd, b"%03d" % (n % 1000), size)
        os.lseek(fd, size + 1, 0)

    if checkpoint(step):
        os.ftruncate(fd, 1)
    assert os.fstat(fd).st_size == size + 3 and os.lseek(fd, 0, 1) == size + 1


run(main)
