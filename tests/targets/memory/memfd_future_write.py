"""F_SEAL_FUTURE_WRITE: the old mapping may write, nobody else; also when only the mapping is left."""

import fcntl
import os

from target_api import PAGE, Skip, checkpoint, mmap, pattern, peek, poke, run, vma

FUTURE_WRITE = 0x10


def main():
    fds = [os.memfd_create(name, os.MFD_ALLOW_SEALING) for name in ("open", "closed")]
    areas = []
    for fd in fds:
        os.ftruncate(fd, 4 * PAGE)
        areas.append(mmap(4 * PAGE, 3, 1, fd))
        try:
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, FUTURE_WRITE | fcntl.F_SEAL_SHRINK)
        except OSError as error:
            raise Skip(f"no F_SEAL_FUTURE_WRITE: {error}") from error
    os.close(fds[1])
    for area in areas:
        poke(area, pattern(1))
    if checkpoint(lambda n: [poke(area + PAGE, b"%016d" % n) for area in areas]):
        poke(areas[1], b"tampered")
    for area in areas:
        assert peek(area, PAGE) == pattern(1)
        poke(area + 2 * PAGE, b"still")
    start = vma(areas[1])[""].split()[0]
    again = os.open(f"/proc/self/map_files/{start}", os.O_RDWR)
    for fd in (fds[0], again):
        assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) == FUTURE_WRITE | fcntl.F_SEAL_SHRINK
        assert os.pread(fd, 5, 2 * PAGE) == b"still"
        try:
            os.pwrite(fd, b"x", 0)
        except PermissionError:
            continue
        raise AssertionError("written in spite of the seal")


run(main)
