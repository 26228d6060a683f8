"""A pipe in packet mode (O_DIRECT) keeps the packets apart."""

import os

from target_api import checkpoint, run


def main():
    reader, writer = os.pipe2(os.O_DIRECT)
    for packet in (b"one", b"two and more", b"3"):
        os.write(writer, packet)
    if checkpoint():
        os.read(reader, 100)
    assert [os.read(reader, 100) for _ in range(3)] == [b"one", b"two and more", b"3"]


run(main)
