"""A stopped child stays stopped until it is continued."""

import os
import signal

from target_api import checkpoint, child, exit_code, run, state, wait_for_go


def main():
    pid = child(lambda: wait_for_go() or 9)
    os.kill(pid, signal.SIGSTOP)
    assert os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])
    if checkpoint():
        os.kill(pid, signal.SIGCONT)
    for _ in range(20):
        assert state(pid) == "T", state(pid)
    os.kill(pid, signal.SIGCONT)
    assert exit_code(pid) == 9


run(main)
