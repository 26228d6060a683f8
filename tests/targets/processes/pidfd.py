"""Pidfds of a child, of this task and of a dead child."""

import os
import select
import signal

from target_api import checkpoint, child, forever, run


def main():
    pid, dead = child(forever), child(lambda: 3)
    fd, own, other = os.pidfd_open(pid), os.pidfd_open(os.getpid()), os.pidfd_open(dead)
    select.select([other], [], [])
    if checkpoint():
        os.kill(pid, 9)
    assert select.select([fd, own, other], [], [], 0)[0] == [other]
    signal.pidfd_send_signal(fd, signal.SIGTERM)
    assert select.select([fd], [], [], 60)[0] == [fd]
    assert os.waitid(os.P_PIDFD, fd, os.WEXITED).si_status == signal.SIGTERM
    assert os.waitid(os.P_PIDFD, other, os.WEXITED).si_status == 3


run(main)
