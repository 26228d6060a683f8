"""Duplicates of one description: close-on-exec is each descriptor's own, the status flags are shared."""

import fcntl
import os

from target_api import DIR, checkpoint, child, exit_code, run, wait_for_go


def main():
    fd = os.open(DIR / "file", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"0123456789")
    kept = os.dup(fd)
    os.set_inheritable(kept, True)
    high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 700)
    apart = os.open(DIR / "file", os.O_RDWR)

    def other():
        wait_for_go()
        while not (fcntl.fcntl(kept, fcntl.F_GETFL) & os.O_NONBLOCK):
            pass
        os.lseek(high, 7, 0)
        return fcntl.fcntl(high, fcntl.F_GETFD) != 1 or fcntl.fcntl(kept, fcntl.F_GETFD) != 0

    pid = child(other)
    if checkpoint():
        os.set_inheritable(high, True)
        os.dup2(apart, kept, True)
    assert [fcntl.fcntl(n, fcntl.F_GETFD) for n in (fd, kept, high)] == [1, 0, 1]
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_NONBLOCK)
    assert fcntl.fcntl(high, fcntl.F_GETFL) & os.O_NONBLOCK
    assert not fcntl.fcntl(apart, fcntl.F_GETFL) & os.O_NONBLOCK
    assert exit_code(pid) == 0
    assert [os.lseek(n, 0, 1) for n in (fd, kept, high, apart)] == [7, 7, 7, 0]


run(main)
