"""POSIX record locks on ranges, of parent and child."""

import fcntl
import os
import struct

from target_api import DIR, checkpoint, child, eventually, exit_code, forever, run


def holder(fd, kind, start, length):
    """(type, start, length, pid) of the lock in the way, or None."""
    answer = fcntl.fcntl(fd, fcntl.F_GETLK, struct.pack("hhqqixxxx", kind, 0, start, length, 0))
    found = struct.unpack("hhqqixxxx", answer)
    return None if found[0] == fcntl.F_UNLCK else (found[0], found[2], found[3], found[4])


def main():
    fd = os.open(DIR / "locked", os.O_RDWR | os.O_CREAT)
    os.write(fd, bytes(1000))
    reader, writer = os.pipe()
    root = os.getpid()

    def other():
        fcntl.lockf(fd, fcntl.LOCK_EX, 100, 200)
        os.write(writer, b"1")
        eventually((DIR / "go").exists, "go", 600)
        wanted = (fcntl.F_WRLCK, 0, 10, root), (fcntl.F_RDLCK, 50, 20, root)
        seen = holder(fd, fcntl.F_WRLCK, 0, 5), holder(fd, fcntl.F_WRLCK, 55, 1)
        os.write(writer, b"y" if seen == wanted else b"n")
        forever()

    pid = child(other)
    os.read(reader, 1)
    fcntl.lockf(fd, fcntl.LOCK_EX, 10, 0)
    fcntl.lockf(fd, fcntl.LOCK_SH, 20, 50)
    checkpoint()
    assert holder(fd, fcntl.F_RDLCK, 150, 1) == (fcntl.F_WRLCK, 200, 100, pid) or holder(fd, fcntl.F_RDLCK, 0, 0) == (
        fcntl.F_WRLCK,
        200,
        100,
        pid,
    )
    answer = os.read(reader, 1)
    os.kill(pid, 9)
    exit_code(pid)
    assert answer == b"y"


run(main)
