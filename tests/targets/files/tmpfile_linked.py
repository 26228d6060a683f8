"""A file made with O_TMPFILE that got a name later, and one that gets it after the restore."""

import os

from target_api import DIR, Skip, call, checkpoint, run


def link(fd, path):
    call("linkat", -100, b"/proc/self/fd/%d" % fd, -100, os.fsencode(path), 0x400)  # AT_SYMLINK_FOLLOW


def main():
    try:
        early, late = (os.open(DIR, os.O_TMPFILE | os.O_RDWR, 0o640) for _ in range(2))
    except OSError as error:
        raise Skip(f"no O_TMPFILE here: {error}") from error
    os.write(early, b"early")
    os.write(late, b"late")
    link(early, DIR / "early")
    if checkpoint():
        os.pwrite(late, b"L", 0)
    assert os.fstat(early).st_ino == (DIR / "early").stat().st_ino
    assert os.lseek(early, 0, 1) == 5 and os.lseek(late, 0, 1) == 4
    link(late, DIR / "late")
    assert (DIR / "late").read_text() == "late" and (DIR / "late").stat().st_mode & 0o777 == 0o640


run(main)
