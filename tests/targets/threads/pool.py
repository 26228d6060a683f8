"""A ThreadPoolExecutor with work waiting, under way and done."""

import threading
from concurrent.futures import ThreadPoolExecutor

from target_api import checkpoint, run


def main():
    gate = threading.Event()
    with ThreadPoolExecutor(3) as pool:
        done = pool.submit(pow, 2, 10)
        waiting = [pool.submit(lambda n=n: gate.wait() and n * n) for n in range(10)]
        assert done.result() == 1024
        tampered = checkpoint()
        gate.set()
        assert [f.result() for f in waiting] == [n * n for n in range(10)]
        assert pool.submit(sum, [1, 2]).result() == (4 if tampered else 3)


run(main)
