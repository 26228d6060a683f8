"""fanotify events that nobody has read, of a mark on a whole mount, too: FAN_Q_OVERFLOW says that some were lost."""

import ctypes
import os
import struct

from target_api import DIR, Skip, checkpoint, libc, run

MODIFY, OPEN, Q_OVERFLOW, ADD, MOUNT, REPORT_DFID_NAME = 0x2, 0x20, 0x4000, 0x1, 0x10, 0xC00


def group(flags):
    fd = libc.fanotify_init(2 | flags, os.O_RDONLY)
    if fd < 0:
        raise Skip("no fanotify for this user")
    return fd


def mark(fd, flags, mask, path):
    if libc.fanotify_mark(fd, flags, ctypes.c_uint64(mask), -100, os.fsencode(path)):
        raise Skip(f"no such mark: {os.strerror(ctypes.get_errno())}")


def masks(fd):
    found = []
    try:
        while data := os.read(fd, 65536):
            while data:
                length, _, _, _, mask, opened, _ = struct.unpack_from("<IBBHQii", data)
                if opened >= 0:
                    os.close(opened)
                found.append(mask)
                data = data[length:]
    except BlockingIOError:
        return found


def main():
    (DIR / "file").touch()
    plain, named, everywhere = group(0), group(REPORT_DFID_NAME), group(0)
    mark(plain, ADD, MODIFY, DIR / "file")
    mark(named, ADD, MODIFY | 0x08000000, DIR)
    mark(everywhere, ADD | MOUNT, OPEN, "/")
    (DIR / "file").write_text("x")
    if checkpoint():
        masks(plain)
        masks(named)
    for fd, waited in ((plain, [MODIFY]), (named, None), (everywhere, None)):
        found = masks(fd)
        assert Q_OVERFLOW in found or found == waited or (waited is None and found), (fd, found)
        assert not masks(fd) or fd == everywhere
    (DIR / "file").write_text("y")
    assert MODIFY in masks(plain) and MODIFY in masks(named)
    with open(DIR / "file"):
        assert OPEN in masks(everywhere)


run(main)
