"""A pseudoterminal pair inside: settings, size, bytes on their way."""

import fcntl
import os
import pty
import struct
import termios

from target_api import checkpoint, read_whole, run


def main():
    master, slave = pty.openpty()
    settings = termios.tcgetattr(slave)
    settings[3] &= ~(termios.ECHO | termios.ICANON)
    settings[0] &= ~termios.ICRNL
    settings[6][termios.VMIN], settings[6][termios.VTIME] = 3, 7
    settings[4] = settings[5] = termios.B9600
    termios.tcsetattr(slave, termios.TCSANOW, settings)
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("4H", 33, 101, 0, 0))
    before, name = termios.tcgetattr(slave), os.ttyname(slave)
    if checkpoint():
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("4H", 3, 1, 0, 0))
    assert termios.tcgetattr(slave) == before and os.ttyname(slave) == name
    assert struct.unpack("4H", fcntl.ioctl(slave, termios.TIOCGWINSZ, bytes(8)))[:2] == (33, 101)
    os.write(master, b"abc\r")
    assert os.read(slave, 10) == b"abc\r"
    os.write(slave, b"out\n")
    assert read_whole(master, 5) == b"out\r\n"


run(main)
