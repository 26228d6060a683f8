"""fanotify: marks on a file and a directory with their masks, one that ignores, flags of the group and of events."""

import ctypes
import os
import struct

from target_api import DIR, Skip, checkpoint, child, exit_code, libc, run

MODIFY, OPEN, CLOSE_WRITE, ON_CHILD = 0x2, 0x20, 0x8, 0x08000000
ADD, IGNORED, SURVIVE = 1, 0x20, 0x40


def mark(fd, flags, mask, path):
    libc.fanotify_mark.argtypes = [ctypes.c_int, ctypes.c_uint, ctypes.c_uint64, ctypes.c_int, ctypes.c_char_p]
    assert libc.fanotify_mark(fd, flags, mask, -100, os.fsencode(path)) == 0, path


def lines(fd):
    with open(f"/proc/self/fdinfo/{fd}") as stream:
        return sorted(line for line in stream if line.startswith("fanotify"))


def events(fd):
    found = []
    try:
        data = os.read(fd, 65536)
    except BlockingIOError:
        return found
    while data:
        length, _, _, _, mask, opened, pid = struct.unpack_from("<IBBHQii", data)
        found.append((mask, os.readlink(f"/proc/self/fd/{opened}").split("/")[-1], pid))
        os.close(opened)
        data = data[length:]
    return found


def main():
    fd = libc.fanotify_init(2, os.O_RDONLY | os.O_CLOEXEC)  # FAN_NONBLOCK
    if fd < 0:
        raise Skip("no fanotify for this user")
    (DIR / "folder").mkdir()
    (DIR / "file").touch()
    (DIR / "quiet").touch()
    mark(fd, ADD, MODIFY | CLOSE_WRITE, DIR / "file")
    mark(fd, ADD, OPEN | ON_CHILD, DIR / "folder")
    mark(fd, ADD, MODIFY, DIR / "quiet")
    mark(fd, ADD | IGNORED | SURVIVE, MODIFY, DIR / "quiet")
    before = lines(fd)
    if checkpoint():
        mark(fd, ADD, OPEN, DIR / "file")
    assert lines(fd) == before, (before, lines(fd))

    def touch():
        (DIR / "file").write_text("x")
        (DIR / "quiet").write_text("x")
        (DIR / "folder" / "inside").touch()

    pid = child(touch)
    assert exit_code(pid) == 0
    found = events(fd)
    names = {(name, who) for _, name, who in found}
    assert names == {("file", pid), ("inside", pid)}, found


run(main)
