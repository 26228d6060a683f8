"""A file opened for writing whose path another file took (as log rotation and editors do)."""

import os

from target_api import DIR, checkpoint, run


def main():
    log = os.open(DIR / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(log, b"first\n")
    os.rename(DIR / "log", DIR / "log.1")
    (DIR / "log").write_text("another file\n")
    edited = os.open(DIR / "edited", os.O_RDWR | os.O_CREAT)
    os.write(edited, b"old version")
    (DIR / "edited.new").write_text("new version, longer")
    os.rename(DIR / "edited.new", DIR / "edited")
    if checkpoint():
        os.pwrite(edited, b"?", 0)
    os.write(log, b"second\n")
    assert (DIR / "log.1").read_text() == "first\nsecond\n" and (DIR / "log").read_text() == "another file\n"
    assert os.pread(edited, 99, 0) == b"old version"
    assert (DIR / "edited").read_text() == "new version, longer"


run(main)
