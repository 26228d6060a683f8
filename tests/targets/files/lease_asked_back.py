"""Leases that were asked back before the dump: what is left of each, no second signal, a child that waits."""

import fcntl
import os
import signal

from target_api import DIR, checkpoint, child, exit_code, run

RD, WR, NONE = fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK
CASES = [  # how the holder has it open, its lease, how the other opens it, what is to be left
    (os.O_RDONLY, RD, os.O_WRONLY, NONE),
    (os.O_RDWR, WR, os.O_WRONLY, NONE),
    (os.O_RDONLY, WR, os.O_RDONLY, RD),
    (os.O_RDONLY, WR, os.O_WRONLY, NONE),
]


def refused(name, access):
    try:
        os.close(os.open(DIR / name, access | os.O_NONBLOCK))
    except BlockingIOError:
        return True
    return False


def leased(name, access, lease, number):
    (DIR / name).write_text("x")
    fd = os.open(DIR / name, access)
    fcntl.fcntl(fd, 10, number)
    fcntl.fcntl(fd, fcntl.F_SETLEASE, lease)
    return fd


def main():
    numbers = [signal.SIGRTMIN + n for n in range(5)]
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    fds = []
    for n, (access, lease, other, left) in enumerate(CASES):
        fds.append(leased(str(n), access, lease, numbers[n]))
        assert refused(str(n), other) and signal.sigtimedwait({numbers[n]}, 60)
        assert fcntl.fcntl(fds[n], fcntl.F_GETLEASE) == left
    waited_for = leased("waited for", os.O_RDONLY, WR, numbers[4])
    pid = child(lambda: os.close(os.open(DIR / "waited for", os.O_WRONLY)))
    assert signal.sigtimedwait({numbers[4]}, 60)
    if checkpoint():
        fcntl.fcntl(fds[0], fcntl.F_SETLEASE, NONE)
    for n, (_, _, other, left) in enumerate(CASES):
        assert fcntl.fcntl(fds[n], fcntl.F_GETLEASE) == left and refused(str(n), other)
        fcntl.fcntl(fds[n], fcntl.F_SETLEASE, left)
        assert not refused(str(n), other)
    assert not signal.sigpending() & set(numbers), "asked twice"
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    fcntl.fcntl(waited_for, fcntl.F_SETLEASE, NONE)
    assert exit_code(pid) == 0


run(main)
