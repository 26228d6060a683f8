"""A child that runs 32-bit code."""

import os
import struct

from bare import start
from target_api import PAGE, Skip, checkpoint, run

BASE = 0x8048000
CODE = bytes.fromhex(
    "83ec10"  # sub $16,%esp
    "b803000000 31db 89e1 ba01000000 cd80"  # 1: read(0, %esp, 1)
    "85c0 7e18 fe0424"  # jle 2f; incb (%esp)
    "b804000000 bb01000000 89e1 ba01000000 cd80"  # write(1, %esp, 1)
    "ebd4"  # jmp 1b
    "bb05000000 b801000000 cd80"  # 2: exit(5)
)


def program():
    size = 84 + len(CODE)
    head = struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, BASE + 84, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    return b"\x7fELF\x01\x01\x01" + bytes(9) + head + struct.pack("<8I", 1, 0, BASE, BASE, size, size, 5, PAGE) + CODE


def main():
    pid, to, back = start(program())
    os.write(to, b"a")
    if os.read(back, 1) != b"b":
        raise Skip("this kernel runs no 32-bit code")
    checkpoint()
    os.write(to, b"y")
    assert os.read(back, 1) == b"z"
    os.close(to)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5


run(main)
