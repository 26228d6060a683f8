"""A stop that the parent has not been told of yet."""

import os
import signal

from target_api import checkpoint, child, eventually, forever, run, state


def main():
    pid = child(forever)
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: state(pid) == "T", "stopped")
    if checkpoint():
        os.waitpid(pid, os.WUNTRACED)
        os.kill(pid, signal.SIGCONT)
    assert state(pid) == "T"
    os.kill(pid, signal.SIGCONT)
    eventually(lambda: state(pid) == "S", "continued")
    os.kill(pid, signal.SIGKILL)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL


run(main)
