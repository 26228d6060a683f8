"""Checkpointed inside a signal handler, that interrupted a sleep."""

import os
import signal
import threading
import time

from target_api import checkpoint, run


def main():
    result = []

    def handler(number, frame):
        result.append(checkpoint())

    signal.signal(signal.SIGUSR1, handler)
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    began = time.monotonic()
    time.sleep(1)
    assert result == [False] and time.monotonic() - began >= 1


run(main)
