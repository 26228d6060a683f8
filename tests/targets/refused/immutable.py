"""A file open for writing that was made immutable since (chattr +i): nobody could open it so again."""

import fcntl
import os
import struct

from target_api import DIR, Skip, checkpoint, run

FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_IMMUTABLE_FL = 0x80086601, 0x40086602, 0x10


def main():
    fd = os.open(DIR / "settled", os.O_RDWR | os.O_CREAT)
    reader = os.open(DIR / "settled", os.O_RDONLY)
    os.write(fd, b"as it is")
    try:
        before = struct.unpack("l", fcntl.ioctl(fd, FS_IOC_GETFLAGS, bytes(8)))[0]
        fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack("l", before | FS_IMMUTABLE_FL))
    except OSError as error:
        raise Skip(f"no chattr: {error}") from None
    try:
        if checkpoint():
            os.lseek(reader, 3, 0)
        assert os.read(reader, 99) == b"as it is" and os.lseek(fd, 0, 1) == 8
    finally:
        fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack("l", before))


run(main)
