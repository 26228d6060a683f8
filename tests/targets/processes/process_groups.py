"""A signal to a process group reaches its members and no one else."""

import os
import signal

from target_api import checkpoint, child, forever, run


def main():
    leader = child(forever)
    os.setpgid(leader, leader)
    member, outsider = child(forever), child(forever)
    os.setpgid(member, leader)
    if checkpoint():
        os.setpgid(member, 0)
    assert os.getpgid(member) == os.getpgid(leader) == leader
    assert os.getpgid(outsider) == os.getpgid(0)
    os.killpg(leader, signal.SIGTERM)
    assert {os.waitpid(-leader, 0)[0], os.waitpid(-leader, 0)[0]} == {leader, member}
    assert os.waitpid(outsider, os.WNOHANG) == (0, 0)
    os.kill(outsider, 9)


run(main)
