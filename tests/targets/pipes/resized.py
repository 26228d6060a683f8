"""Pipes larger and smaller than usual."""

import fcntl
import os

from target_api import checkpoint, pattern, run


def main():
    big, small = os.pipe(), os.pipe()
    fcntl.fcntl(big[1], fcntl.F_SETPIPE_SZ, 1 << 20)
    fcntl.fcntl(small[1], fcntl.F_SETPIPE_SZ, 4096)
    os.write(big[1], pattern(1, 300_000))
    if checkpoint():
        os.read(big[0], 1)
    assert fcntl.fcntl(big[0], fcntl.F_GETPIPE_SZ) == 1 << 20
    assert fcntl.fcntl(small[0], fcntl.F_GETPIPE_SZ) == 4096
    data = b""
    while len(data) < 300_000:
        data += os.read(big[0], 1 << 20)
    assert data == pattern(1, 300_000)


run(main)
