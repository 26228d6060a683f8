"""Locked, exclusive, sized, owned; many slaves of one terminal, opened in several ways."""

import ctypes
import errno
import fcntl
import os
import pty
import struct
import termios

from target_api import checkpoint, run

TIOCGPTPEER, TIOCSPTLCK, TIOCGPTLCK, TIOCGEXCL = 0x5441, 0x40045431, 0x80045439, 0x80045440


def number(fd, request):
    return struct.unpack("i", fcntl.ioctl(fd, request, bytes(4)))[0]


def main():
    master, slave = pty.openpty()
    name = os.ttyname(slave)
    peer = ctypes.CDLL(None).ioctl(master, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY)
    reader = os.open(name, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
    os.chmod(name, 0o600)
    os.chown(name, 1, 5)
    settings = termios.tcgetattr(slave)
    settings[1] |= termios.OLCUC if hasattr(termios, "OLCUC") else 0
    settings[2] |= termios.PARENB
    settings[3] |= termios.NOFLSH
    settings[6][termios.VINTR] = b"\x01"
    termios.tcsetattr(slave, termios.TCSANOW, settings)
    settings = termios.tcgetattr(slave)
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 11, 22, 33, 44))
    fcntl.ioctl(slave, termios.TIOCEXCL)
    locked = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
    if checkpoint():
        fcntl.ioctl(slave, termios.TIOCSWINSZ, bytes(8))
    for fd in (slave, peer, reader):
        assert os.ttyname(fd) == name and termios.tcgetattr(fd) == settings
        assert fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8)) == struct.pack("4H", 11, 22, 33, 44)
    found = os.stat(name)
    assert (found.st_mode & 0o777, found.st_uid, found.st_gid) == (0o600, 1, 5)
    assert number(slave, TIOCGEXCL) == 1 and number(locked, TIOCGPTLCK) == 1 and number(master, TIOCGPTLCK) == 0
    assert fcntl.fcntl(reader, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_NONBLOCK) == os.O_NONBLOCK
    try:
        os.open(f"/dev/pts/{number(locked, 0x80045430)}", os.O_RDWR | os.O_NOCTTY)
    except OSError as error:
        assert error.errno == errno.EIO
    else:
        raise AssertionError("a locked terminal could be opened")
    fcntl.ioctl(slave, termios.TIOCNXCL)
    os.write(master, b"line\n")
    assert os.read(peer, 100) == b"line\n"


run(main)
