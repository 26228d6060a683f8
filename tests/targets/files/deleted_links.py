"""Deleted files with several names: all gone, one left in another directory, opened by both, recreated."""

import os

from target_api import DIR, checkpoint, run


def main():
    (DIR / "sub").mkdir()
    (DIR / "one").write_text("two names")
    os.link(DIR / "one", DIR / "sub" / "two")
    first, second = os.open(DIR / "one", os.O_RDWR), os.open(DIR / "sub" / "two", os.O_RDWR)
    os.unlink(DIR / "one")
    os.unlink(DIR / "sub" / "two")
    (DIR / "kept").write_text("a name is left")
    os.link(DIR / "kept", DIR / "sub" / "other")
    gone, alive = os.open(DIR / "kept", os.O_RDWR), os.open(DIR / "sub" / "other", os.O_RDWR)
    os.unlink(DIR / "kept")
    (DIR / "again").write_text("old")
    old = os.open(DIR / "again", os.O_RDWR)
    os.unlink(DIR / "again")
    (DIR / "again").write_text("new")
    new = os.open(DIR / "again", os.O_RDWR)
    os.unlink(DIR / "again")
    if checkpoint():
        os.pwrite(second, b"?", 0)
    assert os.fstat(first).st_ino == os.fstat(second).st_ino and os.fstat(first).st_nlink == 0
    assert os.pread(second, 99, 0) == b"two names"
    os.pwrite(first, b"2", 0)
    assert os.pread(second, 99, 0) == b"2wo names"
    assert os.fstat(gone).st_ino == os.fstat(alive).st_ino == (DIR / "sub" / "other").stat().st_ino
    assert os.pread(gone, 99, 0) == b"a name is left" and not (DIR / "kept").exists()
    assert (os.read(old, 9), os.read(new, 9)) == (b"old", b"new") and not (DIR / "again").exists()


run(main)
