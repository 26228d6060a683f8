"""A file in /dev/shm, mapped shared by two tasks."""

import mmap
import os
from pathlib import Path

from target_api import PAGE, Skip, checkpoint, child, eventually, exit_code, run


def main():
    if not Path("/dev/shm").is_dir():
        raise Skip("no /dev/shm")
    path = Path(f"/dev/shm/ckpt-target-{os.getpid()}")
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT)
        os.ftruncate(fd, 2 * PAGE)
        area = mmap.mmap(fd, 2 * PAGE)
        os.close(fd)
        area[10:14] = b"data"
        pid = child(lambda: eventually(lambda: area[0] == 1) or area.__setitem__(1, 9))
        if checkpoint(lambda n: area.__setitem__(100, n % 256)):
            area[10] = 0
        assert area[10:14] == b"data" == path.read_bytes()[10:14]
        area[0] = 1
        assert exit_code(pid) == 0 and area[1] == 9
    finally:
        path.unlink()


run(main)
