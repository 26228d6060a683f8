"""Descriptors, and a private mapping, of shared memory that has no name: an anonymous one and a SysV segment, opened
through /proc/PID/map_files."""

import ctypes
import mmap as flags
import os

from target_api import PAGE, Skip, call, checkpoint, libc, mmap, pattern, peek, poke, run

IPC_PRIVATE, IPC_RMID = 0, 0


def opened(area):
    try:
        return os.open(f"/proc/self/map_files/{area:x}-{area + 4 * PAGE:x}", os.O_RDWR)
    except OSError as error:
        raise Skip(f"map_files: {error}") from None


def attached():
    number = call("shmget", IPC_PRIVATE, 4 * PAGE, 0o600)
    libc.shmat.restype = ctypes.c_void_p
    area = libc.shmat(number, None, 0)
    call("shmctl", number, IPC_RMID, 0)
    return area


def main():
    places = {"anonymous": mmap(4 * PAGE, 3, 0x21), "segment": attached()}
    files = {name: opened(area) for name, area in places.items()}
    for area in places.values():
        poke(area, pattern(1, 4 * PAGE))
    copy = mmap(4 * PAGE, 3, flags.MAP_PRIVATE, files["anonymous"])
    poke(copy + PAGE, b"my own")
    unmapped = mmap(4 * PAGE, 3, 0x21)
    poke(unmapped, pattern(2, 4 * PAGE))
    last = opened(unmapped)
    call("munmap", unmapped, 4 * PAGE)

    def step(count):
        for area in places.values():
            poke(area + 16, b"%08d" % count)
        os.pwrite(last, b"%08d" % count, 16)

    if checkpoint(step):
        poke(places["segment"] + 2 * PAGE, b"tampered")
    for name, area in places.items():
        assert os.pread(files[name], 4 * PAGE, 0) == peek(area, 4 * PAGE), name
        assert peek(area + PAGE, 3 * PAGE) == pattern(1, 4 * PAGE)[PAGE:], name
        os.pwrite(files[name], b"through the file", 3 * PAGE)
        assert peek(area + 3 * PAGE, 16) == b"through the file", name
    assert peek(copy + PAGE, 6) == b"my own" and peek(copy + 3 * PAGE, 16) == b"through the file"
    assert os.pread(last, 3 * PAGE, PAGE) == pattern(2, 4 * PAGE)[PAGE:]


run(main)
