"""Typed lines, ends of file and a line that is not finished yet, with what was echoed."""

import os
import pty
import select

from target_api import checkpoint, run


def main():
    master, slave = pty.openpty()
    os.write(master, b"one\ntwo\nthree\x04\x04unfin")
    os.write(slave, b"\x1b[1mout\n")
    while len(select.select([slave], [], [], 0)[0]) == 0:
        pass
    if checkpoint():
        os.read(slave, 100)
    assert [os.read(slave, 100) for _ in range(4)] == [b"one\n", b"two\n", b"three", b""]
    assert not select.select([slave], [], [], 0)[0]
    os.write(master, b"X\x7fished\n")
    assert os.read(slave, 100) == b"unfinished\n"
    text = b""
    while not text.endswith(b"ished\r\n"):
        assert select.select([master], [], [], 20)[0], text
        text += os.read(master, 1000)
    assert (
        b"one\r\ntwo\r\nthree" in text
        and b"\x1b[1mout\r\n" in text
        and b"unfinX" in text.replace(b"\x1b[1mout\r\n", b"")
    )


run(main)
