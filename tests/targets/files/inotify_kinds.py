"""inotify: gaps in the numbers, a deleted file that is still open, a one-shot watch, flags, a removed one, a tmpfs."""

import ctypes
import os
import struct
import tempfile

from target_api import DIR, checkpoint, libc, run

MODIFY, ATTRIB, CREATE, DELETE, OPEN = 2, 4, 0x100, 0x200, 0x20
ONLYDIR, EXCL_UNLINK, ONESHOT = 0x01000000, 0x04000000, 0x80000000
NONBLOCK = 0o4000


def add(fd, path, mask):
    wd = libc.inotify_add_watch(fd, os.fsencode(path), ctypes.c_uint32(mask))
    assert wd > 0, path
    return wd


def events(fd):
    try:
        data = os.read(fd, 65536)
    except BlockingIOError:
        return []
    found = []
    while data:
        wd, mask, _, length = struct.unpack_from("iIII", data)
        found.append((wd, mask, data[16 : 16 + length].rstrip(b"\0").decode()))
        data = data[16 + length :]
    return found


def lines(fd):
    with open(f"/proc/self/fdinfo/{fd}") as stream:
        return sorted(line.split(" ino")[0] + line.split("mask")[1][:10] for line in stream if "wd" in line)


def main():
    fd = libc.inotify_init1(NONBLOCK)
    copy = os.dup(fd)
    shm = tempfile.mkdtemp(dir="/dev/shm")
    for name in ("folder", "other"):
        (DIR / name).mkdir()
    for name in ("file", "gone", "gap", "once"):
        (DIR / name).touch()
    held = os.open(DIR / "gone", os.O_RDWR)
    watched = [add(fd, DIR / "folder", CREATE | DELETE | ONLYDIR | EXCL_UNLINK)]
    gaps = [add(fd, DIR / "gap", OPEN)]
    watched += [add(fd, DIR / "file", MODIFY), add(fd, DIR / "gone", MODIFY)]
    gaps += [add(fd, DIR / "other", CREATE)]
    watched += [add(fd, DIR / "once", MODIFY | ONESHOT), add(fd, shm, CREATE)]
    for wd in gaps:
        libc.inotify_rm_watch(fd, wd)
    os.unlink(DIR / "gone")
    events(fd)
    before = lines(fd)
    try:
        if checkpoint():
            libc.inotify_rm_watch(fd, watched[0])
        assert lines(fd) == before, (before, lines(fd))
        assert events(fd) == []
        (DIR / "folder" / "new").touch()
        (DIR / "file").write_text("x")
        os.write(held, b"x")
        (DIR / "once").write_text("x")
        (DIR / "once").write_text("yy")
        with open(f"{shm}/new", "w"):
            pass
        found = events(copy)
        wanted = {(watched[0], CREATE, "new"), (watched[1], MODIFY, ""), (watched[2], MODIFY, "")}
        wanted |= {(watched[3], MODIFY, ""), (watched[3], 0x8000, ""), (watched[4], CREATE, "new")}
        assert set(found) == wanted, (found, wanted)
        assert add(fd, DIR / "other", CREATE) == watched[-1] + 1
    finally:
        for name in os.listdir(shm):
            os.unlink(f"{shm}/{name}")
        os.rmdir(shm)


run(main)
