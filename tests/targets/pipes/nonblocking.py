"""O_NONBLOCK at one end and not at the other."""

import fcntl
import os

from target_api import checkpoint, run


def main():
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    os.set_blocking(writer, True)
    before = [fcntl.fcntl(fd, fcntl.F_GETFL) for fd in (reader, writer)]
    if checkpoint():
        os.write(writer, b"x")
    assert [fcntl.fcntl(fd, fcntl.F_GETFL) for fd in (reader, writer)] == before
    try:
        os.read(reader, 1)
    except BlockingIOError:
        return
    raise AssertionError("something to read")


run(main)
