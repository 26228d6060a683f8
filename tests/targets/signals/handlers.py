"""Signal handlers: all of them are called, with their flags."""

import os
import signal

from target_api import checkpoint, eventually, run


def main():
    seen = []
    numbers = [signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM, signal.SIGRTMIN, signal.SIGRTMAX, signal.SIGWINCH]
    for number in numbers:
        signal.signal(number, lambda number, frame: seen.append(number))
    if checkpoint():
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    for number in numbers:
        os.kill(os.getpid(), number)
        eventually(lambda number=number: number in seen, f"signal {number}", 5)
    assert seen == numbers


run(main)
