"""A memfd of huge pages that has a size and holds nothing: more of them than the machine has, or ever had."""

import fcntl
import os

from target_api import Skip, checkpoint, run

MFD_ALLOW_SEALING, MFD_HUGETLB, F_ADD_SEALS, F_GET_SEALS, F_SEAL_SHRINK = 2, 4, 1033, 1034, 2


def main():
    try:
        fd = os.memfd_create("huge", MFD_HUGETLB | MFD_ALLOW_SEALING)
    except OSError:
        raise Skip("no hugetlbfs") from None
    os.ftruncate(fd, 1 << 40)
    fcntl.fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK)
    before = os.fstat(fd)
    if checkpoint():
        os.ftruncate(fd, 2 << 40)
    after = os.fstat(fd)
    for name in ("st_size", "st_blocks", "st_blksize", "st_mode"):
        assert getattr(before, name) == getattr(after, name), name
    assert fcntl.fcntl(fd, F_GET_SEALS) == F_SEAL_SHRINK
    assert os.readlink(f"/proc/self/fd/{fd}") == "/memfd:huge (deleted)"


run(main)
