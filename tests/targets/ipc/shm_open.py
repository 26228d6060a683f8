"""shm_open: an object with a name, one without, one open in two tasks and mapped by both, one grown after mapping."""

import mmap
import os

from target_api import PAGE, checkpoint, child, exit_code, pattern, run, wait_for_go


def main():
    paths = [f"/dev/shm/ckpt-target-{os.getpid()}-{n}" for n in range(3)]
    fds = [os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600) for path in paths]
    for fd in fds:
        os.ftruncate(fd, 4 * PAGE)
    areas = [mmap.mmap(fd, 4 * PAGE) for fd in fds]
    for n, area in enumerate(areas):
        area[:PAGE] = pattern(n)
    os.unlink(paths[1])
    os.ftruncate(fds[2], 6 * PAGE)
    os.close(fds[0])
    os.unlink(paths[2])

    def other():
        wait_for_go()
        while areas[1][PAGE] != 9:
            pass
        areas[2][PAGE] = 7
        return areas[0][:PAGE] != pattern(0)

    pid = child(other)
    try:
        if checkpoint():
            areas[0][0] = 9
        assert [area[:PAGE] for area in areas] == [pattern(n) for n in range(3)]
        areas[1][PAGE] = 9
        assert exit_code(pid) == 0 and areas[2][PAGE] == 7
        assert os.pread(fds[1], 1, PAGE) == b"\x09" and os.fstat(fds[2]).st_size == 6 * PAGE
        assert os.fstat(fds[1]).st_nlink == 0
        with open(paths[0], "rb") as stream:
            assert stream.read(PAGE) == pattern(0)
    finally:
        os.unlink(paths[0])


run(main)
