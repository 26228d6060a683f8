"""Character devices: null, zero, full, random, urandom; the kernel's log, open for writing."""

import errno
import os

from target_api import checkpoint, run


def main():
    null, zero, full, random = (
        os.open(f"/dev/{name}", os.O_RDWR if name != "urandom" else os.O_RDONLY)
        for name in ("null", "zero", "full", "urandom")
    )
    log = os.open("/dev/kmsg", os.O_WRONLY) if os.access("/dev/kmsg", os.W_OK) else -1
    if checkpoint():
        os.dup2(null, zero)
    assert os.read(null, 10) == b"" and os.read(zero, 10) == bytes(10)
    assert os.write(null, b"x") == 1 and len(os.read(random, 10)) == 10
    assert log < 0 or os.readlink(f"/proc/self/fd/{log}") == "/dev/kmsg"
    try:
        os.write(full, b"x")
    except OSError as error:
        assert error.errno == errno.ENOSPC


run(main)
