"""A pseudoterminal with a line discipline that swallows everything (N_NULL), whose modes nobody can ask for."""

import fcntl
import pty
import struct
import termios

from target_api import Skip, checkpoint, run


def main():
    _master, slave = pty.openpty()
    try:
        fcntl.ioctl(slave, termios.TIOCSETD, struct.pack("i", 27))
    except OSError as error:
        raise Skip(f"no such line discipline: {error}") from None
    checkpoint()
    assert struct.unpack("i", fcntl.ioctl(slave, termios.TIOCGETD, bytes(4)))[0] == 27


run(main)
