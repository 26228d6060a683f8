"""A raw terminal with binary data on its way in both directions, more than the line discipline holds."""

import os
import pty
import select
import tty

from target_api import checkpoint, pattern, run


def drain(fd):
    data = b""
    while select.select([fd], [], [], 0.5)[0]:
        data += os.read(fd, 65536)
    return data


def main():
    master, slave = pty.openpty()
    tty.setraw(slave)
    every = bytes(range(256))
    os.write(master, every * 3)
    os.write(slave, every + pattern(3, 8000))
    if checkpoint():
        os.read(master, 10)
    assert drain(slave) == every * 3
    assert drain(master) == every + pattern(3, 8000)
    os.write(slave, b"after")
    assert os.read(master, 100) == b"after"


run(main)
