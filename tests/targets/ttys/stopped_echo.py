"""The echo of what is typed while the output is stopped, by ^S or a call, or was stopped a moment before; and packet
mode, whose reader hears of no stop that it has heard of."""

import fcntl
import os
import pty
import select
import struct
import termios

from target_api import checkpoint, eventually, read_whole, run

TIOCPKT = 0x5420


def arrived(fd):
    return select.select([fd], [], [], 0)[0]


def everything(fd):
    found = b""
    eventually(lambda: arrived(fd))
    while arrived(fd):
        found += os.read(fd, 1000)
    return found


def typed(master, slave, text):
    """Until the line discipline has a line of it, or, where there is none, most likely has it."""
    os.write(master, text)
    select.select([slave], [], [], 60 if b"\n" in text else 0.1)


def main():
    pairs = {name: pty.openpty() for name in ("character", "call", "over", "packet")}
    for name, (master, slave) in pairs.items():
        if name == "packet":
            fcntl.ioctl(master, TIOCPKT, struct.pack("i", 1))
        if name == "character":
            typed(master, slave, b"\x13")
        else:
            termios.tcflow(slave, termios.TCOOFF)
        if name == "packet":
            assert everything(master)[0] & 4  # TIOCPKT_STOP
        typed(master, slave, b"typed\nand")
        if name == "over":
            termios.tcflow(slave, termios.TCOON)
        assert not arrived(master)
    if checkpoint():
        os.write(pairs["call"][0], b"tampered")
    packets = pairs["packet"][0]
    if arrived(packets):
        assert os.read(packets, 100) == b"\0typed\r\nand", "an old stop is told again"
        os.write(packets, b"\x13\x11")
    for name in ("call", "packet"):
        termios.tcflow(pairs[name][1], termios.TCOON)
    typed(*pairs["character"], b"\x11")
    for name, (master, slave) in pairs.items():
        assert os.read(slave, 100) == b"typed\n"
        typed(master, slave, b" more\n")
        assert os.read(slave, 100) == b"and more\n"
        os.write(slave, b"output\n")
        if name != "packet":
            wanted = b"typed\r\nand more\r\noutput\r\n"
            found = read_whole(master, len(wanted))
            assert found == wanted and not arrived(master), (name, found)


run(main)
