"""Readers that wait: at a slave for a line, at a master for output, and in select."""

import os
import pty
import select

from target_api import checkpoint, child, exit_code, run


def main():
    master, slave = pty.openpty()
    other, other_slave = pty.openpty()
    third, third_slave = pty.openpty()
    line = child(lambda: 5 if os.read(slave, 100) == b"begun, done\n" else 6)
    output = child(lambda: 7 if os.read(other, 100) == b"out" else 8)
    both = child(lambda: 9 if select.select([third, third_slave], [], [], 600)[0] == [third] else 10)
    os.write(master, b"begun, ")
    if checkpoint():
        os.write(master, b"x")
    os.write(other_slave, b"out")
    assert exit_code(output) == 7
    os.write(third_slave, b"x")
    assert exit_code(both) == 9
    os.write(master, b"done\n")
    assert exit_code(line) == 5


run(main)
