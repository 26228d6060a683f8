"""ITIMER_VIRTUAL and ITIMER_PROF go off when the task computes."""

import signal

from target_api import checkpoint, eventually, run


def main():
    seen = {signal.SIGVTALRM: 0, signal.SIGPROF: 0}

    def handler(number, frame):
        seen[number] += 1

    for number in seen:
        signal.signal(number, handler)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.03, 0.03)
    signal.setitimer(signal.ITIMER_PROF, 0.03, 0.03)
    if checkpoint():
        seen[signal.SIGPROF] = -1000000
    before = dict(seen)
    eventually(lambda: sum(range(20000)) and all(seen[n] >= before[n] + 3 for n in seen), "ticks", 30)
    assert min(seen.values()) >= 0


run(main)
