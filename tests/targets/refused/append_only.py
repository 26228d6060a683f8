"""A file mapped for writing that may only be appended to since (chattr +a): nobody could map it so again."""

import fcntl
import mmap
import os
import struct

from target_api import DIR, Skip, checkpoint, run

FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_APPEND_FL = 0x80086601, 0x40086602, 0x20


def main():
    fd = os.open(DIR / "log", os.O_RDWR | os.O_CREAT)
    os.write(fd, bytes(4096))
    area = mmap.mmap(fd, 4096)
    reader = os.open(DIR / "log", os.O_RDONLY)
    os.close(fd)
    try:
        before = struct.unpack("l", fcntl.ioctl(reader, FS_IOC_GETFLAGS, bytes(8)))[0]
        fcntl.ioctl(reader, FS_IOC_SETFLAGS, struct.pack("l", before | FS_APPEND_FL))
    except OSError as error:
        raise Skip(f"no chattr: {error}") from None
    try:
        area[:4] = b"mine"
        if checkpoint():
            area[:4] = b"else"
        assert os.pread(reader, 4, 0) == b"mine"
    finally:
        fcntl.ioctl(reader, FS_IOC_SETFLAGS, struct.pack("l", before))


run(main)
