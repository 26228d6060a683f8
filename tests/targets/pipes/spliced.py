"""Pages in a pipe that came by splice, vmsplice and tee; some are read in part."""

import ctypes
import mmap
import os

from target_api import DIR, PAGE, checkpoint, libc, pattern, run


class Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def drain(fd):
    data = b""
    os.set_blocking(fd, False)
    try:
        while more := os.read(fd, 1 << 20):
            data += more
    except BlockingIOError:
        pass
    return data


def main():
    (DIR / "file").write_bytes(pattern(1, 3 * PAGE))
    file = os.open(DIR / "file", os.O_RDONLY)
    area = mmap.mmap(-1, 2 * PAGE)
    area[:] = pattern(2, 2 * PAGE)
    pipes = [os.pipe() for _ in range(3)]
    assert os.splice(file, pipes[0][1], 3 * PAGE) == 3 * PAGE
    os.read(pipes[0][0], 100)
    cell = (ctypes.c_char * (2 * PAGE)).from_buffer(area)
    iovec = Iovec(ctypes.addressof(cell) + 50, 2 * PAGE - 50)
    assert libc.vmsplice(pipes[1][1], ctypes.byref(iovec), 1, 0) == 2 * PAGE - 50
    assert libc.tee(pipes[1][0], pipes[2][1], 5000, 0) == 5000
    os.write(pipes[2][1], b"and written")
    if checkpoint():
        os.read(pipes[0][0], 1)
    assert drain(pipes[0][0]) == pattern(1, 3 * PAGE)[100:]
    assert drain(pipes[1][0]) == pattern(2, 2 * PAGE)[50:]
    assert drain(pipes[2][0]) == pattern(2, 2 * PAGE)[50:5050] + b"and written"


run(main)
