"""Seals of a memfd hold: it can neither grow, shrink nor be written."""

import fcntl
import os

from target_api import checkpoint, run


def main():
    fd = os.memfd_create("sealed", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.write(fd, b"secret")
    seals = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_WRITE
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    if checkpoint():
        os.close(fd)
        assert os.memfd_create("sealed", os.MFD_ALLOW_SEALING) == fd
    assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) == seals
    assert os.pread(fd, 10, 0) == b"secret"
    assert os.lseek(fd, 0, os.SEEK_CUR) == 6
    try:
        os.pwrite(fd, b"x", 0)
    except PermissionError:
        return
    raise AssertionError("written in spite of the seal")


run(main)
