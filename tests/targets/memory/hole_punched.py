"""Holes punched into shared memory between the rounds."""

import mmap
import os

from target_api import PAGE, call, checkpoint, pattern, run


def main():
    fd = os.memfd_create("holes")
    os.ftruncate(fd, 16 * PAGE)
    area = mmap.mmap(fd, 16 * PAGE)
    model = [0] * 16

    def step(n):
        page = n * 3 % 16
        if n % 2:
            call("fallocate", fd, 3, page * PAGE, PAGE)
            model[page] = 0
        else:
            area[page * PAGE : (page + 1) * PAGE] = pattern(n + 1)
            model[page] = n + 1

    for n in range(20):
        step(n)
    if checkpoint(step):
        model[1] += 1
    for page, n in enumerate(model):
        assert area[page * PAGE : (page + 1) * PAGE] == (pattern(n) if n else bytes(PAGE)), page


run(main)
