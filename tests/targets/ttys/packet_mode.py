"""Packet mode, with an event and output that the master has not read."""

import fcntl
import os
import pty
import struct
import termios

from target_api import checkpoint, run


def main():
    master, slave = pty.openpty()
    fcntl.ioctl(master, termios.TIOCPKT, struct.pack("i", 1))
    termios.tcflush(slave, termios.TCIFLUSH)
    os.write(slave, b"text\n")
    quiet, quiet_slave = pty.openpty()
    fcntl.ioctl(quiet, termios.TIOCPKT, struct.pack("i", 1))
    os.write(quiet_slave, b"no event")
    if checkpoint():
        os.read(master, 100)
    assert os.read(master, 100) == bytes([termios.TIOCPKT_FLUSHREAD])
    assert os.read(master, 100) == b"\0text\r\n"
    assert os.read(quiet, 100) == b"\0no event"
    settings = termios.tcgetattr(slave)
    settings[0] &= ~termios.IXON
    termios.tcsetattr(slave, termios.TCSANOW, settings)
    assert os.read(master, 100) == bytes([termios.TIOCPKT_NOSTOP])


run(main)
