"""A userfaultfd of the program's own: what is registered with it is known to the kernel alone."""

import os

from target_api import Skip, checkpoint, libc, run


def main():
    fd = libc.syscall(323, 1 | os.O_CLOEXEC)  # UFFD_USER_MODE_ONLY
    if fd < 0:
        raise Skip("no userfaultfd")
    checkpoint()
    assert "userfaultfd" in os.readlink(f"/proc/self/fd/{fd}")


run(main)
