"""Eight MiB in /dev/shm that were unlinked and are shared by parent and child, open and closed."""

import os
from pathlib import Path

from target_api import PAGE, Skip, checkpoint, child, eventually, exit_code, mmap, pattern, peek, poke, run

SIZE = 8 << 20


def main():
    if not Path("/dev/shm").is_dir():
        raise Skip("no /dev/shm")
    areas, fds = [], []
    for n in range(2):
        path = Path(f"/dev/shm/ckpt-target-{os.getpid()}-{n}")
        fds.append(os.open(path, os.O_RDWR | os.O_CREAT))
        os.unlink(path)
        os.ftruncate(fds[n], SIZE)
        areas.append(mmap(SIZE, 3, 1, fds[n]))
        poke(areas[n], pattern(n, SIZE - PAGE))
    os.close(fds[1])
    pid = child(lambda: eventually(lambda: peek(areas[1] + SIZE - PAGE, 1) == b"!") or poke(areas[0], b"?"))
    if checkpoint(lambda n: poke(areas[1] + 5 * PAGE, pattern(1, 6 * PAGE)[5 * PAGE : 5 * PAGE + 16])):
        poke(areas[0] + 9, b"tampered")
    for n in range(2):
        assert peek(areas[n], SIZE - PAGE) == pattern(n, SIZE - PAGE), n
    poke(areas[1] + SIZE - PAGE, b"!")
    assert exit_code(pid) == 0
    assert peek(areas[0], 1) == b"?" == os.pread(fds[0], 1, 0)
    os.pwrite(fds[0], b"file", 100)
    assert peek(areas[0] + 100, 4) == b"file"
    assert os.fstat(fds[0]).st_nlink == 0


run(main)
