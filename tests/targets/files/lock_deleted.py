"""Locks on files that were deleted: flock, POSIX and OFD locks, seen by a child that has them open by itself."""

import fcntl
import os
import struct

from target_api import DIR, checkpoint, child, eventually, exit_code, run

ALL = struct.pack("hhqqixxxx", fcntl.F_WRLCK, 0, 0, 0, 0)


def main():
    names = ("flock", "posix", "ofd")
    fds = [os.open(DIR / name, os.O_RDWR | os.O_CREAT) for name in names]

    def other():
        own = [os.open(DIR / name, os.O_RDWR) for name in names]
        (DIR / "opened").touch()
        eventually((DIR / "ask").exists, "ask", 600)
        answers = []
        for function in (
            lambda: fcntl.flock(own[0], fcntl.LOCK_EX | fcntl.LOCK_NB),
            lambda: fcntl.lockf(own[1], fcntl.LOCK_EX | fcntl.LOCK_NB),
            lambda: fcntl.fcntl(own[2], 37, ALL),
        ):
            try:
                function()
                answers.append("got")
            except (BlockingIOError, PermissionError):
                answers.append("held")
        return answers != ["held"] * 3

    pid = child(other)
    while not (DIR / "opened").exists():
        pass
    for name in names:
        os.unlink(DIR / name)
    fcntl.flock(fds[0], fcntl.LOCK_EX)
    fcntl.lockf(fds[1], fcntl.LOCK_EX)
    fcntl.fcntl(fds[2], 37, ALL)
    if checkpoint():
        fcntl.flock(fds[0], fcntl.LOCK_UN)
    (DIR / "ask").touch()
    assert exit_code(pid) == 0


run(main)
