"""A memfd mapped shared twice and open: all three views are one object."""

import mmap
import os

from target_api import PAGE, checkpoint, run


def main():
    fd = os.memfd_create("shared")
    os.ftruncate(fd, 8 * PAGE)
    one, two = mmap.mmap(fd, 8 * PAGE), mmap.mmap(fd, 4 * PAGE, offset=4 * PAGE)
    one[5 * PAGE : 5 * PAGE + 5] = b"hello"
    if checkpoint(lambda n: os.pwrite(fd, b"%08d" % n, 7 * PAGE)):
        two[PAGE] = 0
    assert two[PAGE : PAGE + 5] == b"hello"
    two[0:2] = b"hi"
    assert one[4 * PAGE : 4 * PAGE + 2] == b"hi" == os.pread(fd, 2, 4 * PAGE)
    assert os.fstat(fd).st_size == 8 * PAGE
    assert "memfd:shared" in os.readlink(f"/proc/self/fd/{fd}")


run(main)
