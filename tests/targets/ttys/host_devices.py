"""Terminals of the host: a virtual one with modes of its own, the console, and one that controls a child's session."""

import os
import signal
import stat
import termios
from pathlib import Path

from target_api import DIR, Skip, checkpoint, child, eventually, exit_code, forever, publish, run, wait_for_go


def opened(name, major, minor):
    os.mknod(DIR / name, 0o600 | stat.S_IFCHR, os.makedev(major, minor))
    try:
        return os.open(DIR / name, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError as error:
        raise Skip(f"no {name} here: {error}") from None


def terminal():
    return Path("/proc/self/stat").read_text().rpartition(")")[2].split()[4:6]


def main():
    virtual, console = opened("virtual", 4, 61), opened("console", 5, 1)
    modes = termios.tcgetattr(virtual)
    modes[6][7] = b"Q"
    termios.tcsetattr(virtual, termios.TCSANOW, modes)

    def leader():
        os.setsid()
        os.open("/dev/tty62", os.O_RDWR)
        own = os.open("/dev/tty", os.O_RDWR)
        job = child(forever)
        os.setpgid(job, job)
        os.tcsetpgrp(own, job)
        before = terminal()
        publish("leading", "")
        wait_for_go()
        assert terminal() == before, (terminal(), before)
        assert os.tcgetpgrp(own) == job
        os.kill(job, signal.SIGKILL)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # for the end

    pid = child(leader)
    eventually((DIR / "leading").exists, "the leader is ready")
    if checkpoint():
        modes[6][7] = b"R"
    assert os.fstat(virtual).st_rdev == os.makedev(4, 61) and termios.tcgetattr(virtual) == modes
    assert os.fstat(console).st_rdev == os.makedev(5, 1) and os.isatty(console)
    assert exit_code(pid) == 0


run(main)
