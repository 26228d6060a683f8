"""Sessions on terminals of every size hear of no change of it: the leader in the foreground, and behind its job."""

import fcntl
import os
import pty
import signal
import struct
import termios

from target_api import DIR, checkpoint, child, eventually, exit_code, publish, run, wait_for_go


def lead(number, slave, masters):
    for master in masters:
        os.close(master)
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    heard = []
    for name in (signal.SIGWINCH, signal.SIGHUP, signal.SIGCONT, signal.SIGINT):
        signal.signal(name, lambda signal_number, _frame: heard.append(signal_number))
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    job = None
    if number % 2:
        job = child(follow, heard)
        eventually(lambda: os.tcgetpgrp(slave) == job)
    publish(f"up{number}", "")
    wait_for_go()
    if job is not None and exit_code(job):
        return 3
    size = struct.unpack("4H", fcntl.ioctl(slave, termios.TIOCGWINSZ, b"\0" * 8))
    return 2 if heard else int(size != (10 + number, 20, 30, 40))


def follow(heard):
    os.setpgid(0, 0)
    os.tcsetpgrp(os.open("/dev/tty", os.O_RDWR), os.getpid())
    wait_for_go()
    return int(bool(heard))


def target():
    masters, leaders = [], []
    for number in range(4):
        master, slave = pty.openpty()
        masters.append(master)
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("4H", 10 + number, 20, 30, 40))
        leaders.append(child(lead, number, slave, masters))
        os.close(slave)
        eventually(lambda name=f"up{number}": (DIR / name).exists())
    checkpoint()
    assert [exit_code(pid) for pid in leaders] == [0] * 4


run(target)
