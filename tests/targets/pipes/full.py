"""A full pipe: not a byte more fits, and all are there."""

import os

from target_api import checkpoint, pattern, run


def main():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    size = os.write(writer, pattern(8, 1 << 20))
    if checkpoint():
        os.read(reader, 4096)
    try:
        os.write(writer, b"x")
        raise AssertionError("more fits into a full pipe")
    except BlockingIOError:
        pass
    data = b""
    while len(data) < size:
        data += os.read(reader, size)
    assert data == pattern(8, 1 << 20)[:size]


run(main)
