"""The signal mask of the main thread."""

import os
import signal

from target_api import checkpoint, eventually, run


def main():
    blocked, seen = {signal.SIGUSR1, signal.SIGTERM, signal.SIGRTMIN + 5, 63}, []
    signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    if checkpoint(same=False):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {63})
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == blocked
    os.kill(os.getpid(), signal.SIGUSR1)
    assert not seen
    signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked)
    eventually(lambda: seen == [1], "delivered")


run(main)
