"""Children in sessions and groups of their own."""

import os

from target_api import checkpoint, child, eventually, exit_code, run, wait_for_go


def check_session():
    os.setsid()
    pid = child(check_member, os.getpid())
    wait_for_go()
    assert os.getsid(0) == os.getpgid(0) == os.getpid()
    return exit_code(pid)


def check_member(session):
    os.setpgid(0, 0)
    wait_for_go()
    return 0 if os.getsid(0) == session and os.getpgid(0) == os.getpid() else 1


def main():
    pids = [child(check_session) for _ in range(3)]
    eventually(lambda: all(os.getsid(pid) == pid for pid in pids), "sessions")
    if checkpoint():
        os.kill(pids[0], 9)
    assert [exit_code(pid) for pid in pids] == [0, 0, 0]


run(main)
