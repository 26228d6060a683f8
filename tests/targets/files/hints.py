"""Write life time hints, of files with a name, of a deleted one and of a memfd."""

import fcntl
import os
import struct

from target_api import DIR, Skip, checkpoint, run

F_GET_RW_HINT, F_SET_RW_HINT = 1035, 1036


def hint(fd):
    return struct.unpack("Q", fcntl.fcntl(fd, F_GET_RW_HINT, bytes(8)))[0]


def main():
    fds = [os.open(DIR / f"file{n}", os.O_RDWR | os.O_CREAT) for n in range(4)]
    gone = os.open(DIR / "gone", os.O_RDWR | os.O_CREAT)
    os.unlink(DIR / "gone")
    memory = os.memfd_create("hinted")
    try:
        for n, fd in enumerate([*fds, gone, memory]):
            fcntl.fcntl(fd, F_SET_RW_HINT, struct.pack("Q", n % 5 + 1))
    except OSError as error:
        raise Skip(f"no hints: {error}") from error
    if checkpoint():
        fcntl.fcntl(gone, F_SET_RW_HINT, struct.pack("Q", 0))
    assert [hint(fd) for fd in [*fds, gone, memory]] == [1, 2, 3, 4, 5, 1]


run(main)
