"""A raw terminal with binary data on its way in both directions, more than the line discipline holds."""

import os
import pty
import select
import tty

from target_api import checkpoint, pattern, read_whole, run


def drain(fd, size):
    data = read_whole(fd, size)
    return data + os.read(fd, 10) if select.select([fd], [], [], 0.2)[0] else data


def main():
    master, slave = pty.openpty()
    tty.setraw(slave)
    every = bytes(range(256))
    os.write(master, every * 3)
    os.write(slave, every + pattern(3, 8000))
    if checkpoint():
        os.read(master, 10)
    assert drain(slave, 768) == every * 3
    assert drain(master, 8256) == every + pattern(3, 8000)
    os.write(slave, b"after")
    assert os.read(master, 100) == b"after"


run(main)
