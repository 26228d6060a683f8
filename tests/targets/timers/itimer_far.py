"""Interval timers far from their end: what was left is left, less what has passed."""

import signal

from target_api import checkpoint, run


def main():
    timers = {signal.ITIMER_REAL: (5000, 7), signal.ITIMER_VIRTUAL: (4000, 6), signal.ITIMER_PROF: (3000, 0)}
    for which, (left, interval) in timers.items():
        signal.setitimer(which, left, interval)
    if checkpoint():
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    for which, (left, interval) in timers.items():
        now = signal.getitimer(which)
        assert left - 900 < now[0] <= left + 0.1 and now[1] == interval, (which, now)


run(main)
