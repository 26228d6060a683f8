"""A fanotify group that is asked before files are opened."""

import os

from target_api import Skip, checkpoint, libc, run


def main():
    fd = libc.fanotify_init(4 | 2, os.O_RDONLY)  # FAN_CLASS_CONTENT, FAN_NONBLOCK
    if fd < 0:
        raise Skip("no fanotify for this user")
    checkpoint()
    assert "fanotify" in os.readlink(f"/proc/self/fd/{fd}")


run(main)
