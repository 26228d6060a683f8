"""A child blocked in a write to a full pipe, another in a read from an empty one."""

import os

from target_api import checkpoint, child, exit_code, pattern, run


def main():
    full, empty = os.pipe(), os.pipe()
    size = 200_000

    def write():
        os.close(full[0])
        done = 0
        while done < size:
            done += os.write(full[1], pattern(3, size)[done:])
        return 21

    def read():
        return len(os.read(empty[0], 100))

    pids = [child(write), child(read)]
    os.close(full[1])
    if checkpoint():
        os.read(full[0], 1)
    os.write(empty[1], b"x" * 17)
    data = b""
    while more := os.read(full[0], 65536):
        data += more
    assert data == pattern(3, size), len(data)
    assert [exit_code(pid) for pid in pids] == [21, 17]


run(main)
