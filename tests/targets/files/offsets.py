"""Offsets, access modes and status flags of regular files."""

import fcntl
import os

from target_api import DIR, checkpoint, run


def main():
    (DIR / "data").write_bytes(bytes(range(256)))
    reader = os.open(DIR / "data", os.O_RDONLY)
    writer = os.open(DIR / "data", os.O_WRONLY | os.O_SYNC)
    both = os.open(DIR / "data", os.O_RDWR | os.O_NOATIME | os.O_NONBLOCK)
    os.lseek(reader, 100, 0)
    os.lseek(both, 1 << 33, 0)
    fds = [reader, writer, both]
    before = [(os.lseek(fd, 0, 1), fcntl.fcntl(fd, fcntl.F_GETFL)) for fd in fds]
    if checkpoint():
        os.read(reader, 1)
    assert [(os.lseek(fd, 0, 1), fcntl.fcntl(fd, fcntl.F_GETFL)) for fd in fds] == before
    assert os.read(reader, 3) == bytes([100, 101, 102])
    try:
        os.write(reader, b"x")
    except OSError:
        return
    raise AssertionError("a read-only file was written")


run(main)
