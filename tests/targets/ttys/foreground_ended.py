"""A terminal whose foreground group has ended, as a shell sees it before it takes the terminal back."""

import fcntl
import os
import pty
import select
import signal
import termios

from target_api import DIR, checkpoint, child, eventually, exit_code, forever, publish, run, wait_for_go


def main():
    master, slave = pty.openpty()

    def leader():
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        job = child(forever)
        os.setpgid(job, job)
        os.tcsetpgrp(slave, job)
        os.kill(job, signal.SIGKILL)
        exit_code(job)
        publish("leading", "")
        wait_for_go()
        assert os.tcgetpgrp(slave) == job, (os.tcgetpgrp(slave), job)
        os.write(master, b"\x03\n")  # there is nobody whom ^C could reach
        assert select.select([slave], [], [], 60)[0]  # so it has been through the line discipline
        os.tcsetpgrp(slave, os.getpgrp())
        assert os.tcgetpgrp(slave) == os.getpgrp() and os.read(slave, 9) == b"\n"

    pid = child(leader)
    eventually((DIR / "leading").exists, "the leader is ready")
    if checkpoint():
        os.kill(pid, signal.SIGKILL)
    assert exit_code(pid) == 0


run(main)
