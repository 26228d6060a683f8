"""Files that the task itself extends and truncates while it is pre-dumped."""

import os

from target_api import DIR, checkpoint, run


def main():
    grows = os.open(DIR / "grows", os.O_RDWR | os.O_CREAT)
    shrinks = os.open(DIR / "shrinks", os.O_RDWR | os.O_CREAT)
    os.ftruncate(shrinks, 1 << 20)
    count = 0

    def step(n):
        nonlocal count
        os.write(grows, b"%08d" % n)
        os.ftruncate(shrinks, (1 << 20) - n)
        count = n + 1

    if checkpoint(step):
        os.ftruncate(grows, 4)
    assert os.lseek(grows, 0, 1) == 8 * count == os.fstat(grows).st_size
    assert os.pread(grows, 8 * count, 0) == b"".join(b"%08d" % n for n in range(count))
    assert os.fstat(shrinks).st_size == (1 << 20) - count + 1


run(main)
