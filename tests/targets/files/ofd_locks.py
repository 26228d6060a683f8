"""Open file description locks."""

import fcntl
import os
import struct

from target_api import DIR, checkpoint, run


def lock(fd, command, kind, start, length):
    answer = fcntl.fcntl(fd, command, struct.pack("hhqqixxxx", kind, 0, start, length, 0))
    return struct.unpack("hhqqixxxx", answer)


def main():
    one, two = (os.open(DIR / "locked", os.O_RDWR | os.O_CREAT) for _ in range(2))
    set_, get = 37, 36
    lock(one, set_, fcntl.F_WRLCK, 10, 5)
    lock(two, set_, fcntl.F_RDLCK, 30, 5)
    if checkpoint():
        lock(one, set_, fcntl.F_UNLCK, 10, 5)
    assert lock(two, get, fcntl.F_WRLCK, 0, 20)[:4] == (fcntl.F_WRLCK, 0, 10, 5)
    assert lock(one, get, fcntl.F_WRLCK, 30, 1)[:4] == (fcntl.F_RDLCK, 0, 30, 5)
    os.close(one)
    assert lock(two, get, fcntl.F_WRLCK, 0, 20)[0] == fcntl.F_UNLCK


run(main)
