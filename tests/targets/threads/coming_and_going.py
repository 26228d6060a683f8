"""Threads that are born and end all the time, through every round."""

import threading

from target_api import checkpoint, run


def main():
    results = []

    def step(n):
        threads = [threading.Thread(target=results.append, args=(n,)) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    stop = threading.Event()

    def spawner():
        while not stop.is_set():
            thread = threading.Thread(target=lambda: None)
            thread.start()
            thread.join()
            stop.wait(0.001)

    back = threading.Thread(target=spawner)
    back.start()
    if checkpoint(step, same=False):
        results.append(0)
    stop.set()
    back.join()
    assert all(results.count(n) == 5 for n in set(results))


run(main)
