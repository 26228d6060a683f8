"""A process group whose leader has ended."""

import os
import signal

from target_api import checkpoint, child, forever, run


def main():
    leader = child(forever)
    os.setpgid(leader, leader)
    pids = [child(forever) for _ in range(2)]
    for pid in pids:
        os.setpgid(pid, leader)
    os.kill(leader, signal.SIGKILL)
    os.waitpid(leader, 0)
    if checkpoint():
        os.setpgid(pids[0], 0)
    assert [os.getpgid(pid) for pid in pids] == [leader, leader]
    os.killpg(leader, signal.SIGTERM)
    assert sorted(os.waitpid(-leader, 0)[0] for _ in pids) == sorted(pids)


run(main)
