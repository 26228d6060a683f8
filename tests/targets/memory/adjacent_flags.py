"""Neighbouring mappings that differ in one flag alone stay apart."""

from pathlib import Path

from target_api import PAGE, call, checkpoint, mmap, pattern, peek, poke, run

ADVICE = (10, 16, 1, 2, 15, 18)  # DONTFORK, DONTDUMP, RANDOM, SEQUENTIAL, NOHUGEPAGE, WIPEONFORK


def mine(area, size):
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(x, 16) for x in line.split()[0].split("-"))
        if start < area + size and end > area:
            found.append((line.split()[0], line.split()[1]))
    return found


def main():
    size = 2 * len(ADVICE) * PAGE
    area = mmap(size)
    poke(area, pattern(3, size))
    for n, advice in enumerate(ADVICE):
        call("madvise", area + 2 * n * PAGE, PAGE, advice)
    before = mine(area, size)
    if checkpoint(lambda n: poke(area + n % 12 * PAGE + 64, b"%016d" % n)):
        call("mprotect", area, PAGE, 0)
    assert mine(area, size) == before
    for page in range(2 * len(ADVICE)):
        assert peek(area + page * PAGE, 64) == pattern(3, 64)


run(main)
