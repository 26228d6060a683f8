"""A thread with a stack of its own size, deep in recursion."""

import sys
import threading
from functools import reduce

from target_api import checkpoint, run


def main():
    sys.setrecursionlimit(10000)
    threading.stack_size(16 << 20)
    gate, ready, result = threading.Event(), threading.Event(), []

    def deep(n):
        if n == 0:
            ready.set()
            gate.wait()
            return 0
        return reduce(lambda total, _: total + 1 + deep(n - 1), [0], 0)

    thread = threading.Thread(target=lambda: result.append(deep(800)))
    thread.start()
    ready.wait()
    if checkpoint():
        result.append(0)
    gate.set()
    thread.join()
    assert result == [800], result


run(main)
