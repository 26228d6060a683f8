"""A pipe opened again through /proc/self/fd: both ways, reading only, with flags of its own for each description."""

import fcntl
import os

from target_api import checkpoint, run


def main():
    reader, writer = os.pipe()
    both = os.open(f"/proc/self/fd/{reader}", os.O_RDWR)
    again = os.open(f"/proc/self/fd/{writer}", os.O_RDONLY | os.O_NONBLOCK)
    packets = os.open(f"/proc/self/fd/{reader}", os.O_WRONLY)
    fcntl.fcntl(packets, fcntl.F_SETFL, os.O_DIRECT)
    os.write(both, b"from both ")
    os.write(writer, b"from writer")
    if checkpoint():
        os.read(again, 1)
    flags = [fcntl.fcntl(fd, fcntl.F_GETFL) & ~0o100000 for fd in (reader, writer, both, again, packets)]
    assert flags == [0, 1, 2, os.O_NONBLOCK, 1 | os.O_DIRECT], flags
    assert os.read(reader, 100) == b"from both from writer"
    try:
        os.read(again, 1)
        raise AssertionError("there is nothing to read")
    except BlockingIOError:
        pass
    os.close(writer)
    os.write(both, b"alive")
    assert os.read(again, 9) == b"alive"


run(main)
