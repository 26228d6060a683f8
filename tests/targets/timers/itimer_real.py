"""ITIMER_REAL goes off again and again."""

import signal

from target_api import checkpoint, eventually, run


def main():
    seen = []
    signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    if checkpoint():
        signal.setitimer(signal.ITIMER_REAL, 0, 0)
    count = len(seen)
    assert signal.getitimer(signal.ITIMER_REAL)[1] == 0.05
    eventually(lambda: len(seen) >= count + 3, "more ticks")


run(main)
