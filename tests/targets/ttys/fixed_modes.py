"""Modes that are locked (TIOCSLCKTRMIOS) with bytes that wait, every mode bit by itself, an exclusive master."""

import fcntl
import os
import pty
import struct
import termios

from target_api import checkpoint, run

TCGETS2, TCSETS2, TIOCGEXCL, TIOCGLCKTRMIOS, TIOCSLCKTRMIOS = 0x802C542A, 0x402C542B, 0x80045440, 0x5456, 0x5457


def changed(slave, word, bit):
    modes = bytearray(fcntl.ioctl(slave, TCGETS2, bytes(44)))
    struct.pack_into("<I", modes, 4 * word, struct.unpack_from("<I", modes, 4 * word)[0] ^ (1 << bit))
    fcntl.ioctl(slave, TCSETS2, bytes(modes))
    return fcntl.ioctl(slave, TCGETS2, bytes(44))


def main():
    every = []
    for word, bits in enumerate((16, 16, 31, 17)):
        for bit in range(bits):
            master, slave = pty.openpty()
            every.append((slave, changed(slave, word, bit), master))
    fast, fast_slave = pty.openpty()
    modes = bytearray(fcntl.ioctl(fast_slave, TCGETS2, bytes(44)))
    struct.pack_into("<I", modes, 8, struct.unpack_from("<I", modes, 8)[0] & ~0o10017 | 0o10000)  # BOTHER
    struct.pack_into("<II", modes, 36, 12345, 12345)
    fcntl.ioctl(fast_slave, TCSETS2, bytes(modes))
    every.append((fast_slave, fcntl.ioctl(fast_slave, TCGETS2, bytes(44)), fast))
    fixed, fixed_slave = pty.openpty()
    lock = struct.pack("<4I20s", termios.ICRNL, 0, 0, termios.ICANON | termios.ECHO, bytes(20))
    fcntl.ioctl(fixed_slave, TIOCSLCKTRMIOS, lock)
    os.write(fixed, b"a line\nand more")
    single, single_slave = pty.openpty()
    fcntl.ioctl(single, termios.TIOCEXCL)
    if checkpoint():
        fcntl.ioctl(fixed_slave, TIOCSLCKTRMIOS, bytes(36))
    wrong = [slave for slave, modes, _ in every if fcntl.ioctl(slave, TCGETS2, bytes(44)) != modes]
    assert not wrong, wrong
    assert fcntl.ioctl(fixed_slave, TIOCGLCKTRMIOS, bytes(36)) == lock
    assert os.read(fixed_slave, 99) == b"a line\n"
    os.write(fixed, b"\n")
    assert os.read(fixed_slave, 99) == b"and more\n"
    assert [struct.unpack("i", fcntl.ioctl(fd, TIOCGEXCL, bytes(4)))[0] for fd in (single, single_slave)] == [1, 0]


run(main)
