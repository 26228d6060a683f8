"""mlock that failed on its way: the mapping of a file is locked, and pages that it did not reach are the file's."""

import ctypes
import os

from target_api import PAGE, Skip, call, checkpoint, mmap, pattern, peek, poke, run, vma


def main():
    fd = os.memfd_create("locked")
    os.pwrite(fd, pattern(1, 4 * PAGE), 0)
    unreadable = mmap(5 * PAGE, 0)
    area = call("mmap", unreadable + PAGE, 4 * PAGE, 3, 0x12, fd, 0)
    poke(area, b"own")
    assert ctypes.CDLL(None).mlock(ctypes.c_void_p(unreadable), ctypes.c_size_t(5 * PAGE)) == -1
    if "lo" not in vma(area)["VmFlags"].split():
        raise Skip("locking is not allowed")
    checkpoint()
    assert "lo" in vma(area)["VmFlags"].split()
    os.pwrite(fd, b"later", 0)
    os.pwrite(fd, b"later", 2 * PAGE)
    assert peek(area, PAGE) == b"own" + pattern(1, PAGE)[3:]
    assert peek(area + 2 * PAGE, 5) == b"later"


run(main)
