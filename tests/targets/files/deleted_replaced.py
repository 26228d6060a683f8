"""A deleted file whose name another file has taken."""

import os

from target_api import DIR, checkpoint, run


def main():
    path = DIR / "name"
    path.write_text("old")
    fd = os.open(path, os.O_RDWR)
    os.unlink(path)
    path.write_text("new")
    if checkpoint():
        os.pwrite(fd, b"bad", 0)
    assert os.pread(fd, 10, 0) == b"old" and path.read_text() == "new"


run(main)
