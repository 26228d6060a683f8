"""Three readers and two writers of one pipe: every record is read once."""

import os

from target_api import checkpoint, child, exit_code, run


def main():
    reader, writer = os.pipe()

    def count():
        os.close(writer)
        seen = 0
        while os.read(reader, 4):
            seen += 1
        return seen

    pids = [child(count) for _ in range(3)]
    written = 0

    def step(n):
        nonlocal written
        if written < 200:
            written += os.write(writer, b"%04d" % n) // 4

    if checkpoint(step):
        os.write(writer, b"more")
    os.close(writer)
    assert sum(exit_code(pid) for pid in pids) == written


run(main)
