"""FIFOs whose names mislead: one that ends in " (deleted)", its neighbour, one made again after it was deleted."""

import os

from target_api import DIR, checkpoint, run


def opened(name, text):
    os.mkfifo(DIR / name, 0o600)
    os.utime(DIR / name, (1000, 2000))
    fd = os.open(DIR / name, os.O_RDWR)
    os.write(fd, text)
    return fd


def main():
    fds = {name: opened(name, name.encode()) for name in ("pipe (deleted)", "pipe", "again")}
    os.unlink(DIR / "again")
    old, fds["again"] = fds["again"], opened("again", b"again")
    os.utime(DIR / "pipe", (1000, 2000))
    if checkpoint():
        os.read(fds["pipe"], 1)
    assert os.stat(DIR / "pipe").st_mtime == 2000
    for name, fd in fds.items():
        assert os.fstat(fd).st_ino == os.stat(DIR / name).st_ino and os.readlink(f"/proc/self/fd/{fd}") == str(
            DIR / name
        )
        assert os.read(fd, 99) == name.encode()
    assert os.fstat(old).st_nlink == 0 and os.read(old, 99) == b"again"


run(main)
