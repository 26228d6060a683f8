"""Bytes in a terminal that no one has read yet: output at the master, a line at the slave."""

import os
import pty

from target_api import checkpoint, run


def main():
    master, slave = pty.openpty()
    tty_off = __import__("termios")
    settings = tty_off.tcgetattr(slave)
    settings[3] &= ~tty_off.ECHO
    tty_off.tcsetattr(slave, tty_off.TCSANOW, settings)
    os.write(slave, b"unread output\n")
    os.write(master, b"typed line\n")
    if checkpoint():
        os.read(slave, 100)
        os.write(master, b"other\n")
    assert os.read(slave, 100) == b"typed line\n"
    assert os.read(master, 100) == b"unread output\r\n"


run(main)
