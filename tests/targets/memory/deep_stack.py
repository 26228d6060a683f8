"""Checkpointed thousands of C frames deep, and every frame returns what it should."""

import sys
from functools import reduce

from target_api import checkpoint, run


def deep(n):
    if n == 0:
        return 1000 if checkpoint() else 0
    return reduce(lambda total, step: total + step + deep(n - 1), [1], 0)


def main():
    sys.setrecursionlimit(5000)
    assert deep(400) == 400


run(main)
