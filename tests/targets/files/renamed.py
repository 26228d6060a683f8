"""A file that was renamed after it was opened, in a directory that was renamed too."""

import os

from target_api import DIR, checkpoint, run


def main():
    (DIR / "a").mkdir()
    (DIR / "a" / "one").write_text("content")
    fd = os.open(DIR / "a" / "one", os.O_RDWR)
    os.rename(DIR / "a" / "one", DIR / "a" / "two")
    os.rename(DIR / "a", DIR / "b")
    os.read(fd, 3)
    if checkpoint():
        os.read(fd, 1)
    assert os.read(fd, 10) == b"tent"
    assert os.fstat(fd).st_ino == (DIR / "b" / "two").stat().st_ino


run(main)
