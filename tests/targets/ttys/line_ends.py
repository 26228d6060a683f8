"""What ends a line in unusual modes: VEOL, VEOL2 (with IEXTEN alone), nothing under EXTPROC; F_GETFL of a slave."""

import fcntl
import os
import pty
import struct
import termios

from target_api import checkpoint, eventually, run

EXTPROC, TIOCPKT_IOCTL = 0o200000, 64


def made(text, extended=True, local=0):
    master, slave = pty.openpty()
    settings = termios.tcgetattr(slave)
    settings[3] = (settings[3] | local) & ~termios.ECHO & (~0 if extended else ~termios.IEXTEN)
    settings[6][termios.VEOL], settings[6][termios.VEOL2] = b"!", b"?"
    termios.tcsetattr(slave, termios.TCSANOW, settings)
    os.write(master, text)
    os.set_blocking(slave, False)
    return master, slave


def reads(slave):
    found = []
    while len(found) < 9:
        try:
            found.append(os.read(slave, 99))
        except BlockingIOError:
            break
    return found


def left(fd):
    return struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0]


def main():
    both, plain, telnet = made(b"one!two?\nrest"), made(b"one!two?\nrest", False), made(b"a\nb\nc", local=EXTPROC)
    for master in (telnet[0], both[0]):
        fcntl.ioctl(master, termios.TIOCPKT, struct.pack("i", 1))
    os.write(telnet[1], b"out\n")
    told = made(b"", local=EXTPROC)
    fcntl.ioctl(told[0], termios.TIOCPKT, struct.pack("i", 1))
    termios.tcsetattr(told[1], termios.TCSANOW, termios.tcgetattr(told[1]))
    named = os.open(os.ttyname(both[1]), os.O_RDONLY | os.O_NOCTTY | os.O_NOFOLLOW)
    fds = [both[1], plain[1], telnet[1], named]
    eventually(lambda: [left(fd) for fd in fds] == [9, 9, 5, 9], "the kernel has passed all on to the slaves")
    before = [(fcntl.fcntl(fd, fcntl.F_GETFL), left(fd)) for fd in fds]
    if checkpoint():
        os.read(plain[1], 1)
    after = [(fcntl.fcntl(fd, fcntl.F_GETFL), left(fd)) for fd in fds]
    assert before == after, (before, after)
    assert reads(telnet[1]) == [b"a\nb\nc"]
    assert reads(both[1]) == [b"one!", b"two?", b"\n"] and reads(plain[1]) == [b"one!", b"two?\n"]
    for master, slave in (both, plain):
        os.write(master, b"!")
        assert reads(slave) == [b"rest!"]
    assert os.read(telnet[0], 99) == b"\0out\r\n" and os.read(told[0], 99) == bytes([TIOCPKT_IOCTL])


run(main)
