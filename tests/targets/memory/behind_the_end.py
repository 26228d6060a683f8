"""Bytes behind the end of a shared object, in its last page: whoever maps it can keep something there."""

import ctypes
import os
from pathlib import Path

from target_api import PAGE, call, checkpoint, libc, mmap, peek, poke, run

SIZE = PAGE + 100


def deleted(directory):
    path = Path(directory) / f"ckpt-end-{os.getpid()}"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    path.unlink()
    return fd


def main():
    memfd, mapped, file = os.memfd_create("end"), os.memfd_create("mapped"), deleted("/dev/shm")
    areas = {}
    for name, fd in (("memfd", memfd), ("mapped", mapped), ("file", file)):
        os.ftruncate(fd, SIZE)
        areas[name] = mmap(2 * PAGE, 3, 1, fd)
    os.close(mapped)
    try:
        segment = call("shmget", 0, SIZE, 0o1600)
        libc.shmat.restype = ctypes.c_long
        areas["segment"] = libc.shmat(segment, None, 0)
        call("shmctl", segment, 0, 0)  # IPC_RMID: it goes with the last user
    except OSError:
        pass  # no System V shared memory
    copy = mmap(2 * PAGE, 3, 2, memfd)
    for name, area in areas.items():
        poke(area + SIZE - 5, b"inside" + name.encode())
        poke(area + 2 * PAGE - 3, b"end")
    poke(copy + PAGE, b"own")

    def step(n):
        for area in areas.values():
            poke(area + PAGE + 2000, b"%016d" % n)
        step.last = n

    step(0)
    if checkpoint(step):
        poke(areas["memfd"] + PAGE + 3000, b"tampered")
    for name, area in areas.items():
        text = b"inside" + name.encode()
        assert peek(area + SIZE - 5, len(text)) == text, name
        assert peek(area + PAGE + 2000, 16) == b"%016d" % step.last, name
        assert peek(area + PAGE + 3000, 8) == bytes(8) and peek(area + 2 * PAGE - 3, 3) == b"end", name
    assert peek(copy + PAGE, 3) == b"own" and peek(copy + SIZE - 5, 11) == b"insidememfd"
    assert os.fstat(memfd).st_size == os.fstat(file).st_size == SIZE


run(main)
