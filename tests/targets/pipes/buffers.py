"""Pipes that are full because their buffers are used up, not their bytes: by odd writes, some half read."""

import os
import select

from target_api import checkpoint, run


def filled(size):
    reader, writer = os.pipe2(os.O_NONBLOCK)
    written = 0
    try:
        while True:
            written += os.write(writer, bytes([65 + written % 26]) * size)
    except BlockingIOError:
        return reader, writer, written


def writable(writer):
    return bool(select.select([], [writer], [], 0)[1])


def drained(reader):
    found = b""
    try:
        while True:
            found += os.read(reader, 1 << 20)
    except BlockingIOError:
        return found


def main():
    by_size = {size: filled(size) for size in (3000, 4095, 2049, 1000, 5000)}
    half, half_writer, _ = filled(3000)
    os.read(half, 3000 * 3 + 7)
    beginning, copy = os.pipe2(os.O_NONBLOCK)
    for number in range(10):  # pages of the task's own, a byte in each
        os.writev(copy, [b"%d" % number])
        select.select([beginning], [], [], 0)
    if checkpoint():
        os.read(by_size[3000][0], 1 << 16)
    for size, (reader, writer, written) in by_size.items():
        assert not writable(writer), size
        try:
            os.write(writer, b"z" * size)
            raise AssertionError(f"a write of {size} went into a full pipe")
        except BlockingIOError:
            pass
        expected = b"".join(bytes([65 + at % 26]) * size for at in range(0, written, size))[:written]
        assert drained(reader) == expected, size
    assert writable(half_writer)
    room = 0
    try:
        while True:
            room += os.write(half_writer, b"y" * 4096)
    except BlockingIOError:
        pass
    assert room == 3 * 4096, room
    assert drained(beginning) == b"0123456789"


run(main)
