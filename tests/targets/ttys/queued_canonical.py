"""Typed lines, quoted characters, ends of file and a line that is not finished yet, with what was echoed."""

import os
import pty
import select

from target_api import checkpoint, run


def quoted():
    """Ends of lines that a ^V made ordinary: one in a line, one in a line that is not finished."""
    master, slave = pty.openpty()
    os.write(master, b"a\x16\nb\x16\x04c\nd\x16\ne")
    while len(select.select([slave], [], [], 0)[0]) == 0:
        pass
    return master, slave


def main():
    quoting = quoted()
    master, slave = pty.openpty()
    os.write(master, b"one\ntwo\nthree\x04\x04unfin")
    os.write(slave, b"\x1b[1mout\n")
    while len(select.select([slave], [], [], 0)[0]) == 0:
        pass
    if checkpoint():
        os.read(slave, 100)
    assert [os.read(slave, 100) for _ in range(4)] == [b"one\n", b"two\n", b"three", b""]
    assert not select.select([slave], [], [], 0)[0]
    assert os.read(quoting[1], 100) == b"a\nb\x04c\n"
    os.write(quoting[0], b"f\n")
    assert os.read(quoting[1], 100) == b"d\nef\n"
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
