"""Pipes of which one end is closed: end of file after the data, EPIPE, and one with no one left."""

import os

from target_api import checkpoint, run


def main():
    no_writer, no_reader, empty = os.pipe(), os.pipe(), os.pipe()
    os.write(no_writer[1], b"last words")
    os.close(no_writer[1])
    os.close(no_reader[0])
    os.close(empty[1])
    if checkpoint():
        os.read(no_writer[0], 1)
    assert os.read(no_writer[0], 100) == b"last words" and os.read(no_writer[0], 100) == b""
    assert os.read(empty[0], 1) == b""
    try:
        os.write(no_reader[1], b"x")
    except BrokenPipeError:
        return
    raise AssertionError("written to a pipe without a reader")


run(main)
