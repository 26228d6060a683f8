"""A SysV segment with a key: attached at chosen places, read-only, in part, several times and by two tasks."""

import ctypes
import os
import struct
from pathlib import Path

from target_api import PAGE, Skip, call, checkpoint, child, eventually, exit_code, libc, mmap, peek, poke, run, vma

RDONLY, EXEC, STAT = 0o10000, 0o100000, 2
libc.shmat.restype = ctypes.c_long


def stat(segment):
    data = ctypes.create_string_buffer(112)
    call("shmctl", segment, STAT, data)
    key, uid, gid, _, _, mode = struct.unpack_from("<iIIIII", data.raw)
    size, nattch = struct.unpack_from("<Q", data.raw, 48)[0], struct.unpack_from("<Q", data.raw, 88)[0]
    return key, uid, gid, mode, size, nattch


def attach(segment, address=0, flags=0):
    found = libc.shmat(segment, ctypes.c_void_p(address), flags)
    assert found != -1
    return found


def main():
    key = 0x636B0000 + os.getpid() % 65536
    try:
        segment = call("shmget", key, 5 * PAGE + 100, 0o1640)
    except OSError as error:
        raise Skip(f"no System V shared memory: {error}") from error
    try:
        body(segment, key)
    finally:
        call("shmctl", segment, 0, 0)


def body(segment, key):
    room = mmap(64 * PAGE, 0)
    call("munmap", room + 8 * PAGE, 6 * PAGE)  # no more, or the others may be attached in it
    chosen = attach(segment, room + 8 * PAGE)
    reading, running = attach(segment, 0, RDONLY), attach(segment, 0, EXEC)
    part = attach(segment)
    call("munmap", part, 2 * PAGE)
    call("munmap", part + 4 * PAGE, 2 * PAGE)
    moved = call("mremap", attach(segment), 6 * PAGE, 6 * PAGE, 3, room + 40 * PAGE)
    poke(chosen + 2 * PAGE, b"inside")
    poke(chosen + 5 * PAGE + 90, b"the end")
    split = attach(segment)
    call("mprotect", split + PAGE, PAGE, 1)
    call("munmap", split + 3 * PAGE, PAGE)
    areas = (chosen, reading, running, part + 2 * PAGE, moved, split, split + PAGE, split + 2 * PAGE, split + 4 * PAGE)
    heads = [vma(area)[""].split()[:3] for area in areas]
    pid = child(lambda: eventually(lambda: peek(reading, 1) == b"!") or poke(moved + PAGE, b"?"))
    before = stat(segment)
    if checkpoint(lambda n: poke(moved, b"#%08d" % n)):
        poke(chosen + 2 * PAGE, b"tampered")
    assert stat(segment) == before, (stat(segment), before)
    assert [vma(area)[""].split()[:3] for area in areas] == heads
    assert call("shmget", key, 0, 0) == segment
    for area in (chosen, reading, running, moved):
        assert peek(area + 2 * PAGE, 6) == b"inside" and peek(area + 5 * PAGE + 90, 7) == b"the end"
    assert peek(part + 2 * PAGE, 6) == b"inside"
    poke(chosen, b"!")
    assert exit_code(pid) == 0 and peek(running + PAGE, 1) == b"?"
    try:
        call("mprotect", reading, PAGE, 3)
    except PermissionError:
        call("shmdt", chosen)
        call("shmdt", split)
        left = [line for line in Path("/proc/self/maps").read_text().splitlines() if "/SYSV" in line]
        assert not [line for line in left if split <= int(line.split("-")[0], 16) < split + 6 * PAGE], left
        return
    raise AssertionError("an attachment for reading became writable")


run(main)
