"""threading.Timer: each callback comes once, after the checkpoint; those of one moment in any order."""

import threading

from target_api import checkpoint, eventually, run


def main():
    done = []
    timers = [threading.Timer(1.0 + n * 0.2, done.append, (n,)) for n in range(3)]
    cancelled = threading.Timer(3600, done.append, ("never",))
    for timer in [*timers, cancelled]:
        timer.start()
    if checkpoint(same=False):
        done.append("tampered")
    eventually(lambda: len(done) >= 3, "the timers")
    cancelled.cancel()
    cancelled.join()
    assert sorted(done) == [0, 1, 2], done


run(main)
