"""Zombies with exit codes, not yet waited for."""

import os

from target_api import checkpoint, child, eventually, run, state


def main():
    pids = [child(lambda code=code: code) for code in (0, 1, 42, 255)]
    for pid in pids:
        eventually(lambda pid=pid: state(pid) == "Z", "dead")
    if checkpoint():
        os.waitpid(pids[0], 0)
    assert [state(pid) for pid in pids] == ["Z"] * 4
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0, 1, 42, 255]


run(main)
