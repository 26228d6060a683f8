"""A child blocked in wait for its own child."""

import os
import signal

from target_api import checkpoint, child, forever, run


def main():
    reader, writer = os.pipe()

    def middle():
        lower = child(forever)
        os.write(writer, b"%d" % lower)
        pid, status = os.wait()
        return 8 if (pid, status) == (lower, signal.SIGUSR2) else 1

    pid = child(middle)
    lower = int(os.read(reader, 20))
    if checkpoint():
        os.kill(lower, signal.SIGUSR1)
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    os.kill(lower, signal.SIGUSR2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 8


run(main)
