"""alarm() is still set, and rings."""

import signal

from target_api import checkpoint, eventually, run


def main():
    seen = []
    signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
    signal.alarm(3000)
    if checkpoint():
        signal.alarm(0)
    left = signal.alarm(1)
    assert 2000 < left <= 3000, left
    eventually(lambda: seen, "the alarm rings")


run(main)
