"""A child whose program has no code for a remote syscall to borrow; the code that it is lent is gone afterwards."""

import os
import struct
from pathlib import Path

from bare import start
from target_api import PAGE, checkpoint, run

BASE = 0x400000
# It adds 1 to every byte that it reads, and exits with their number, which stands in a register alone.
CODE = bytes.fromhex(
    "4883ec10"  # sub $16,%rsp
    "31c0 31ff 4889e6 ba01000000 0f05"  # 1: read(0, %rsp, 1)
    "85c0 7e17"  # jle 2f
    "fe0424 49ffc4"  # incb (%rsp); inc %r12
    "b801000000 bf01000000 4889e6 0f05"  # write(1, %rsp, 1)
    "ebd7"  # jmp 1b
    "4489e7 b83c000000 0f05"  # 2: exit(%r12)
)


def program():
    size = 120 + len(CODE)
    head = (
        b"\x7fELF\x02\x01\x01"
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, BASE + 120, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    )
    return head + struct.pack("<IIQQQQQQ", 1, 5, 0, BASE, BASE, size, size, PAGE) + CODE


def text(pid):
    with Path(f"/proc/{pid}/mem").open("rb") as memory:
        memory.seek(BASE)
        return memory.read(PAGE)


def main():
    pid, to, back = start(program())
    for byte in b"ab":
        os.write(to, bytes([byte]))
        assert os.read(back, 1) == bytes([byte + 1])
    before = text(pid)
    assert before == program() + bytes(PAGE - len(program()))
    tampered = checkpoint()
    assert text(pid) == before, "its code is another one"
    os.write(to, b"y")
    assert os.read(back, 1) == (b"y" if tampered else b"z")
    os.close(to)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3


run(main)
