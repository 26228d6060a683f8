"""Character devices: null, zero, full, random, urandom."""

import errno
import os

from target_api import checkpoint, run


def main():
    null, zero, full, random = (
        os.open(f"/dev/{name}", os.O_RDWR if name != "urandom" else os.O_RDONLY)
        for name in ("null", "zero", "full", "urandom")
    )
    if checkpoint():
        os.dup2(null, zero)
    assert os.read(null, 10) == b"" and os.read(zero, 10) == bytes(10)
    assert os.write(null, b"x") == 1 and len(os.read(random, 10)) == 10
    try:
        os.write(full, b"x")
    except OSError as error:
        assert error.errno == errno.ENOSPC


run(main)
