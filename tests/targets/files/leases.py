"""A lease on a file, which breaks when the file is opened."""

import fcntl
import os
import signal

from target_api import DIR, checkpoint, child, eventually, exit_code, run


def main():
    (DIR / "leased").write_text("x")
    seen = []
    signal.signal(signal.SIGIO, lambda *_: seen.append(1))
    fd = os.open(DIR / "leased", os.O_RDONLY)
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    if checkpoint():
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    assert fcntl.fcntl(fd, fcntl.F_GETLEASE) == fcntl.F_RDLCK
    pid = child(lambda: os.close(os.open(DIR / "leased", os.O_WRONLY)))
    eventually(lambda: seen, "the lease is broken")
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    assert exit_code(pid) == 0


run(main)
