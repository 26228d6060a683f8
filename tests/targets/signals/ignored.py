"""Ignored signals are ignored, default ones are not."""

import os
import signal

from target_api import checkpoint, run, status


def main():
    ignored = [signal.SIGHUP, signal.SIGTERM, signal.SIGRTMIN + 7, signal.SIGCHLD]
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
    before = status("SigIgn")
    if checkpoint():
        signal.signal(signal.SIGRTMIN + 7, signal.SIG_DFL)
    assert status("SigIgn") == before
    for number in ignored:
        os.kill(os.getpid(), number)
    pid = os.fork()
    if pid == 0:
        os._exit(1)
    try:
        os.waitpid(pid, 0)  # SIGCHLD is ignored: no zombie, no status
    except ChildProcessError:
        return
    raise AssertionError("a child left a status although SIGCHLD is ignored")


run(main)
