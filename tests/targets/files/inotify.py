"""inotify: watches are kept with their numbers."""

import os
import struct

from target_api import DIR, checkpoint, libc, run


def main():
    watched, file = DIR / "watched", DIR / "file"
    watched.mkdir()
    file.touch()
    fd = libc.inotify_init1(0o4000)
    first = libc.inotify_add_watch(fd, os.fsencode(watched), 0x100 | 0x200)
    gone = libc.inotify_add_watch(fd, os.fsencode(DIR), 0x4000000)
    second = libc.inotify_add_watch(fd, os.fsencode(file), 0x2)
    libc.inotify_rm_watch(fd, gone)
    os.read(fd, 4096)
    if checkpoint():
        libc.inotify_rm_watch(fd, first)
    (watched / "made").touch()
    file.write_text("x")
    events, data = [], os.read(fd, 4096)
    while data:
        number, mask, _, length = struct.unpack_from("iIII", data)
        events.append((number, mask, data[16 : 16 + length].rstrip(b"\0")))
        data = data[16 + length :]
    assert events[0] == (first, 0x100, b"made"), events
    assert set(events[1:]) == {(second, 2, b"")}, events


run(main)
