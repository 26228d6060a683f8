"""Tasks that wait for locks held by others: F_SETLKW, F_OFD_SETLKW and flock go on waiting, and get them."""

import fcntl
import os
import struct
import time

from target_api import DIR, asleep, checkpoint, child, exit_code, run

ALL = struct.pack("hhqqixxxx", fcntl.F_WRLCK, 0, 0, 0, 0)
NONE = struct.pack("hhqqixxxx", fcntl.F_UNLCK, 0, 0, 0, 0)


def main():
    names = ("posix", "ofd", "flock")
    mine = {name: os.open(DIR / name, os.O_RDWR | os.O_CREAT) for name in names}
    fcntl.fcntl(mine["posix"], fcntl.F_SETLK, ALL)
    fcntl.fcntl(mine["ofd"], 37, ALL)
    fcntl.flock(mine["flock"], fcntl.LOCK_EX)

    def wait(name):
        fd = os.open(DIR / name, os.O_RDWR)
        os.write(1, b"waiting\n")
        if name == "flock":
            fcntl.flock(fd, fcntl.LOCK_EX)
        else:
            fcntl.fcntl(fd, fcntl.F_SETLKW if name == "posix" else 38, ALL)
        return 7 if (DIR / "released").exists() else 8

    pids = [child(wait, name) for name in names]
    asleep(*pids)
    if checkpoint():
        fcntl.flock(mine["flock"], fcntl.LOCK_UN)
    time.sleep(0.1)
    assert [os.waitpid(pid, os.WNOHANG)[0] for pid in pids] == [0, 0, 0]
    (DIR / "released").touch()
    fcntl.fcntl(mine["posix"], fcntl.F_SETLK, NONE)
    fcntl.fcntl(mine["ofd"], 37, NONE)
    fcntl.flock(mine["flock"], fcntl.LOCK_UN)
    assert [exit_code(pid) for pid in pids] == [7, 7, 7]


run(main)
