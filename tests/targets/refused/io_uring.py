"""A ring of io_uring cannot be restored: refused by name, and the task goes on."""

import ctypes
import errno
import os

from target_api import Skip, checkpoint, libc, run


def main():
    fd = libc.syscall(425, 4, ctypes.create_string_buffer(120))
    if fd < 0:
        raise Skip(f"no io_uring: {errno.errorcode[ctypes.get_errno()]}")
    checkpoint()
    assert os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:[io_uring]"


run(main)
