"""A multiprocessing pool at work."""

import multiprocessing

from target_api import checkpoint, run, wait_for_go


def square(n):
    wait_for_go()
    return n * n


def main():
    with multiprocessing.get_context("fork").Pool(3) as pool:
        first = pool.map(abs, [-1, -2])
        waiting = pool.map_async(square, range(8))
        if checkpoint():
            first = [0]
        assert waiting.get(60) == [n * n for n in range(8)]
        assert pool.map(abs, [-1, -2]) == first
        pool.close()
        pool.join()


run(main)
