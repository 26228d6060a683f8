"""Leases for reading and writing, each with a signal of its own; the number in siginfo names the file."""

import fcntl
import os
import signal

from target_api import DIR, checkpoint, child, exit_code, run


def main():
    number = signal.SIGRTMIN + 1
    signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    fds = []
    for name in ("read", "write"):
        (DIR / name).write_text("x")
        fds.append(os.open(DIR / name, os.O_RDONLY if name == "read" else os.O_RDWR))
        fcntl.fcntl(fds[-1], 10, number)
        fcntl.fcntl(fds[-1], fcntl.F_SETLEASE, fcntl.F_RDLCK if name == "read" else fcntl.F_WRLCK)
    if checkpoint():
        fcntl.fcntl(fds[1], fcntl.F_SETLEASE, fcntl.F_UNLCK)
    assert [fcntl.fcntl(fd, fcntl.F_GETLEASE) for fd in fds] == [fcntl.F_RDLCK, fcntl.F_WRLCK]
    for fd, name in zip(fds, ("read", "write"), strict=True):
        pid = child(lambda name=name: os.close(os.open(DIR / name, os.O_WRONLY)))
        info = signal.sigtimedwait({number}, 20)
        assert info is not None and info.si_signo == number
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        assert exit_code(pid) == 0


run(main)
