"""Eight threads count; none loses its place."""

import threading
import time

from target_api import checkpoint, eventually, run

N = 8


def main():
    counts, stop, marks = [0] * N, threading.Event(), [None] * N

    def work(n):
        local = 0
        while not stop.is_set():
            local += 1
            counts[n] = local
            time.sleep(0.002)
        marks[n] = local

    threads = [threading.Thread(target=work, args=(n,)) for n in range(N)]
    for thread in threads:
        thread.start()
    if checkpoint(lambda n: None):
        stop.set()
    now = list(counts)
    eventually(lambda: all(c > n for c, n in zip(counts, now, strict=True)), "all go on", 5 if stop.is_set() else 60)
    stop.set()
    for thread in threads:
        thread.join()
    assert marks == counts


run(main)
