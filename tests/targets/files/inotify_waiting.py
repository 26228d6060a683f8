"""Events that nobody has read: afterwards they are there, or IN_Q_OVERFLOW says that some were lost."""

import os
import select
import struct

from target_api import DIR, checkpoint, libc, run

CREATE, OVERFLOW = 0x100, 0x4000


def main():
    (DIR / "watched").mkdir()
    fd = libc.inotify_init1(0)
    wd = libc.inotify_add_watch(fd, os.fsencode(DIR / "watched"), CREATE)
    (DIR / "watched" / "early").touch()
    if checkpoint():
        os.read(fd, 4096)
    (DIR / "watched" / "late").touch()
    assert select.select([fd], [], [], 0)[0]
    found, data = [], os.read(fd, 65536)
    while data:
        number, mask, _, length = struct.unpack_from("iIII", data)
        found.append((number, mask, data[16 : 16 + length].rstrip(b"\0")))
        data = data[16 + length :]
    assert found[-1] == (wd, CREATE, b"late"), found
    assert found[:-1] in ([(-1, OVERFLOW, b"")], [(wd, CREATE, b"early")]), found
    assert not select.select([fd], [], [], 0)[0]


run(main)
