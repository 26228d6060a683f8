"""Raw mode, packet mode, exclusive use and a reader that waits."""

import os
import pty
import tty

from target_api import checkpoint, child, exit_code, run


def main():
    master, slave = pty.openpty()
    tty.setraw(slave)
    pid = child(lambda: 3 if os.read(slave, 10) == b"\x03\x04" else 4)
    if checkpoint():
        tty.setcbreak(slave)
    os.write(master, b"\x03\x04")
    assert exit_code(pid) == 3
    os.write(slave, b"\n\x00\xff")
    assert os.read(master, 10) == b"\n\x00\xff"


run(main)
