"""Terminals that take no byte more, by writes of several sizes; lines typed ahead; a writer that waits for room."""

import fcntl
import os
import pty
import select
import struct
import termios
import time
import tty

from target_api import checkpoint, child, eventually, exit_code, run, state


def fill(fd, text, other):
    """Write over and over until nothing fits, when the line discipline has taken its part; gives what was taken."""
    os.set_blocking(fd, False)
    taken, refused = b"", 0
    while refused < 5:
        try:
            taken += text[: os.write(fd, text)]
            refused = 0
        except BlockingIOError:
            eventually(lambda: struct.unpack("i", fcntl.ioctl(other, termios.FIONREAD, bytes(4)))[0] > 4000)
            time.sleep(0.05)
            refused += 1
    return taken


def drain(fd, size):
    os.set_blocking(fd, False)
    found = b""
    while len(found) < size and select.select([fd], [], [], 30)[0]:
        found += os.read(fd, 1 << 16)
    return found


def main():
    full = []
    for size in (1, 100, 511, 1024, 4096, 70000):
        master, slave = pty.openpty()
        tty.setraw(slave)
        full.append((master, slave, fill(master, b"i" * size, slave), fill(slave, b"o" * size, master)))
    typed, lines = pty.openpty()
    modes = termios.tcgetattr(lines)
    modes[3] &= ~termios.ECHO
    termios.tcsetattr(lines, termios.TCSANOW, modes)
    ahead = b"".join(b"line %d\n" % number for number in range(400))
    os.write(typed, ahead)
    waits, waited_for = pty.openpty()
    tty.setraw(waited_for)
    before = fill(waited_for, b"x" * 100, waits)
    os.set_blocking(waited_for, True)

    def writer():
        return os.write(waited_for, b"y" * 300) != 300

    pid = child(writer)
    eventually(lambda: state(pid) == "S", "the writer waits")
    if checkpoint():
        os.read(full[0][0], 1)
    for master, slave, typed_in, written in full:
        assert drain(slave, len(typed_in)) == typed_in and drain(master, len(written)) == written
        os.write(master, b"!")
        assert drain(slave, 1) == b"!"
    found = drain(lines, len(ahead))
    assert found == ahead, (len(found), found[-20:])
    assert drain(waits, len(before) + 300) == before + b"y" * 300
    assert exit_code(pid) == 0 and not fcntl.fcntl(waited_for, fcntl.F_GETFL) & os.O_NONBLOCK


run(main)
