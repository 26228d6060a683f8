"""A page that cannot be read any more, poisoned as by failing memory: no image may hold zeros for it."""

import fcntl
import os
import struct

from target_api import PAGE, Skip, accessible, checkpoint, libc, mmap, run


def main():
    fd = libc.syscall(323, os.O_CLOEXEC | os.O_NONBLOCK | 1)  # userfaultfd, UFFD_USER_MODE_ONLY
    try:
        fcntl.ioctl(fd, 0xC018AA3F, bytearray(struct.pack("<QQQ", 0xAA, 1 << 14, 0)))  # UFFDIO_API, UFFD_FEATURE_POISON
        area = mmap(4 * PAGE)
        fcntl.ioctl(fd, 0xC020AA00, bytearray(struct.pack("<QQQQ", area, 4 * PAGE, 1, 0)))  # UFFDIO_REGISTER
        fcntl.ioctl(fd, 0xC020AA08, bytearray(struct.pack("<QQQq", area + PAGE, PAGE, 0, 0)))  # UFFDIO_POISON
    except OSError as error:
        raise Skip(f"no userfaultfd that poisons: {error}") from error
    os.close(fd)
    checkpoint()
    assert accessible(area) and not accessible(area + PAGE)


run(main)
