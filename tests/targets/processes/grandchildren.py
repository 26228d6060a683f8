"""Five generations, each waiting for the next; parents and codes are right all the way down."""

import os

from target_api import checkpoint, child, exit_code, run, wait_for_go


def generation(n, parent):
    if n == 5:
        wait_for_go()
        return 7 if os.getppid() == parent else 50
    pid = child(generation, n + 1, os.getpid())
    code = exit_code(pid)
    return code + 1 if os.getppid() == parent else 50


def main():
    pid = child(generation, 1, os.getpid())
    checkpoint()
    assert exit_code(pid) == 11


run(main)
