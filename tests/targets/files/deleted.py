"""Deleted files: open for reading, for writing, twice, and one with another name left."""

import os

from target_api import DIR, checkpoint, run


def main():
    path = DIR / "gone"
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o640)
    again = os.open(path, os.O_RDONLY)
    os.write(fd, b"still here" * 1000)
    os.unlink(path)
    (DIR / "first").write_text("linked")
    linked = os.open(DIR / "first", os.O_RDWR)
    os.link(DIR / "first", DIR / "second")
    os.unlink(DIR / "first")
    unnamed = os.open(DIR, os.O_TMPFILE | os.O_RDWR)
    os.write(unnamed, b"no name")
    if checkpoint():
        os.pwrite(fd, b"?", 5000)
    assert os.pread(again, 20000, 0) == b"still here" * 1000
    assert os.fstat(fd).st_nlink == 0 and os.fstat(fd).st_mode & 0o777 == 0o640
    os.pwrite(fd, b"new", 0)
    assert os.pread(again, 5, 0) == b"newll"
    assert os.lseek(fd, 0, 1) == 10000 and os.pread(unnamed, 99, 0) == b"no name"
    assert os.fstat(linked).st_ino == os.stat(DIR / "second").st_ino
    assert os.readlink(f"/proc/self/fd/{fd}") == f"{path} (deleted)"
    assert not path.exists() and not (DIR / "first").exists()


run(main)
