"""flock: an exclusive lock, a shared one, one inherited by a child."""

import fcntl
import os
from pathlib import Path

from target_api import DIR, checkpoint, child, exit_code, forever, run


def taken(path, kind):
    with open(path) as stream:
        try:
            fcntl.flock(stream, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def shown(fd):
    """Who has which lock, as /proc tells."""
    lines = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
    return [line.split()[2:] for line in lines if line.startswith("lock:")]


def main():
    fds = [os.open(DIR / name, os.O_RDWR | os.O_CREAT) for name in ("ex", "sh", "both")]
    fcntl.flock(fds[0], fcntl.LOCK_EX)
    fcntl.flock(fds[1], fcntl.LOCK_SH)
    fcntl.flock(fds[2], fcntl.LOCK_EX)
    pid = child(forever)
    before = [shown(fd) for fd in fds]
    if checkpoint():
        fcntl.flock(fds[0], fcntl.LOCK_UN)
    assert [shown(fd) for fd in fds] == before and str(os.getpid()) in before[0][0]
    assert taken(DIR / "ex", fcntl.LOCK_SH)
    assert taken(DIR / "sh", fcntl.LOCK_EX) and not taken(DIR / "sh", fcntl.LOCK_SH)
    os.close(fds[2])
    assert taken(DIR / "both", fcntl.LOCK_EX), "the child holds it still"
    os.kill(pid, 9)
    exit_code(pid)
    assert not taken(DIR / "both", fcntl.LOCK_EX)


run(main)
