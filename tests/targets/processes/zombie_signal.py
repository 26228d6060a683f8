"""Zombies that a signal killed."""

import os
import signal

from target_api import checkpoint, child, eventually, forever, run, state


def main():
    numbers = [signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM]
    pids = [child(forever) for _ in numbers]
    for pid, number in zip(pids, numbers, strict=True):
        os.kill(pid, number)
        eventually(lambda pid=pid: state(pid) == "Z", "dead")
    if checkpoint():
        os.waitpid(pids[1], 0)
    info = os.waitid(os.P_PID, pids[0], os.WEXITED | os.WNOWAIT)
    assert (info.si_code, info.si_status) == (os.CLD_KILLED, signal.SIGKILL)
    assert [os.waitpid(pid, 0)[1] & 0x7F for pid in pids] == numbers


run(main)
