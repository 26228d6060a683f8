"""A FIFO that was deleted while parent and child use it."""

import os

from target_api import DIR, checkpoint, child, exit_code, run


def main():
    os.mkfifo(DIR / "fifo")
    reader = os.open(DIR / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(DIR / "fifo", os.O_WRONLY)
    os.set_blocking(reader, True)
    os.unlink(DIR / "fifo")
    os.write(writer, b"abc")

    def other():
        os.close(writer)
        data = b""
        while more := os.read(reader, 10):
            data += more
        return data == b"abcdef"

    pid = child(other)
    if checkpoint():
        os.write(writer, b"x")
    os.write(writer, b"def")
    os.close(writer)
    assert exit_code(pid) == 1


run(main)
