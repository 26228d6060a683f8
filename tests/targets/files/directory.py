"""A directory read half way."""

import ctypes
import os

from target_api import DIR, checkpoint, libc, run


def entries(fd):
    room = ctypes.create_string_buffer(160)
    size = libc.syscall(217, fd, room, 160)
    found, at = [], 0
    while at < size:
        length = int.from_bytes(room.raw[at + 16 : at + 18], "little")
        found.append(room.raw[at + 19 : at + length].split(b"\0")[0].decode())
        at += length
    return found


def main():
    folder = DIR / "folder"
    folder.mkdir()
    for n in range(50):
        (folder / f"file{n}").touch()
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    seen = entries(fd)
    if checkpoint():
        os.lseek(fd, 0, 0)
    while more := entries(fd):
        seen += more
    assert sorted(seen) == sorted([".", ".."] + [f"file{n}" for n in range(50)])
    (folder / "later").touch()
    assert os.stat("later", dir_fd=fd).st_size == 0


run(main)
