"""A pipe with data, in pieces."""

import os

from target_api import checkpoint, run


def main():
    reader, writer = os.pipe()
    for n in range(10):
        os.write(writer, b"piece %d;" % n)
    os.read(reader, 4)
    if checkpoint():
        os.read(reader, 1)
    assert os.read(reader, 1000) == b"".join(b"piece %d;" % n for n in range(10))[4:]


run(main)
