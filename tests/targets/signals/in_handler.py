"""Checkpointed inside a signal handler, that interrupted a sleep."""

import signal
import time

from target_api import checkpoint, run


def main():
    result = []

    def handler(number, frame):
        result.append(checkpoint())

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    began = time.monotonic()
    time.sleep(1)
    assert result == [False] and time.monotonic() - began >= 1


run(main)
