"""Many ranges locked by several tasks: adjacent, overlapping for reading, up to the end, on two descriptors."""

import fcntl
import os
import struct

from target_api import DIR, checkpoint, child, exit_code, forever, run


def look():
    with open("/proc/locks") as stream:
        fields = [line.split() for line in stream if "->" not in line]
    wanted = str((DIR / "locked").stat().st_ino)
    return sorted(tuple(f[1:5] + f[6:]) for f in fields if f[5].split(":")[2] == wanted)


def locks():
    """What two looks agree upon: /proc/locks is read in pieces, which the locks of others shift meanwhile."""
    found, again = look(), look()
    while found != again:
        found, again = again, look()
    return found


def main():
    fd = os.open(DIR / "locked", os.O_RDWR | os.O_CREAT)
    reader, writer = os.pipe()

    def other(start):
        for n in range(5):
            fcntl.lockf(fd, fcntl.LOCK_EX, 10, start + 20 * n)
        fcntl.lockf(fd, fcntl.LOCK_SH, 1000, 1 << 40)
        os.write(writer, b"1")
        forever()

    pids = [child(other, start) for start in (0, 10)]
    os.read(reader, 1)
    os.read(reader, 1)
    second = os.open(DIR / "locked", os.O_RDONLY)
    fcntl.lockf(second, fcntl.LOCK_SH, 100, 1 << 40)
    fcntl.lockf(fd, fcntl.LOCK_EX, 1, (1 << 62) - 2)
    fcntl.fcntl(fd, 37, struct.pack("hhqqixxxx", fcntl.F_RDLCK, 0, 1000, 5, 0))
    fcntl.fcntl(second, 37, struct.pack("hhqqixxxx", fcntl.F_RDLCK, 0, 1003, 5, 0))
    before = locks()
    assert len(before) >= 15, before
    if checkpoint():
        fcntl.lockf(fd, fcntl.LOCK_UN, 1, (1 << 62) - 2)
    after = locks()
    for pid in pids:
        os.kill(pid, 9)
        exit_code(pid)
    assert before == after, (before, after)


run(main)
