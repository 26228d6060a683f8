"""Fifty threads, each blocked on the one before it."""

import threading

from target_api import checkpoint, run


def main():
    events = [threading.Event() for _ in range(51)]

    def work(n):
        events[n].wait()
        events[n + 1].set()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(50)]
    for thread in threads:
        thread.start()
    if checkpoint():
        events[30].set()
        threads[40].join()
    assert not events[50].is_set()
    events[0].set()
    assert events[50].wait(60)


run(main)
