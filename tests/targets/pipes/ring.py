"""A token goes around a ring of five tasks all the time; it is never lost nor doubled."""

import os
import struct

from target_api import DIR, checkpoint, child, eventually, exit_code, run


def main():
    pipes = [os.pipe() for _ in range(6)]

    def pass_on(n):
        for other, (reader, writer) in enumerate(pipes):
            if other != n:
                os.close(reader)
            if other != n + 1:
                os.close(writer)
        while token := os.read(pipes[n][0], 8):
            (value,) = struct.unpack("<Q", token)
            os.write(pipes[n + 1][1], struct.pack("<Q", value + 1))
        return n

    pids = [child(pass_on, n) for n in range(5)]
    first, last = pipes[0][1], pipes[5][0]
    for n, (reader, writer) in enumerate(pipes):
        if n:
            os.close(writer)
        if n < 5:
            os.close(reader)
    os.write(first, struct.pack("<Q", 0))
    rounds = 0

    def step(n):
        nonlocal rounds
        (value,) = struct.unpack("<Q", os.read(last, 8))
        rounds += 1
        assert value == rounds * 5, (value, rounds)
        os.write(first, struct.pack("<Q", value))

    if checkpoint(step):
        os.write(first, struct.pack("<Q", 1))
        step(0)
        step(0)
    step(0)
    os.read(last, 8)
    os.close(first)
    assert [exit_code(pid) for pid in pids] == list(range(5))
    assert DIR.exists() and eventually


run(main)
