"""Clocks never run backwards, and CPU time is not lost by more than the restore's."""

import time

from target_api import checkpoint, run


def main():
    clocks = [time.CLOCK_REALTIME, time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME, time.CLOCK_MONOTONIC_RAW]
    before = [time.clock_gettime(clock) for clock in clocks]
    tampered = checkpoint(lambda n: None)
    after = [time.clock_gettime(clock) for clock in clocks]
    assert all(b >= a for a, b in zip(before, after, strict=True)) and not tampered, (before, after)


run(main)
