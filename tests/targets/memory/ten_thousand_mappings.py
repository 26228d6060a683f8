"""Ten thousand mappings, each with a page of data."""

from target_api import PAGE, call, checkpoint, mmap, pattern, peek, poke, run

COUNT = 10_000


def main():
    area = mmap(2 * COUNT * PAGE)
    for n in range(COUNT):
        poke(area + 2 * n * PAGE, b"%016d" % n)
        call("mprotect", area + (2 * n + 1) * PAGE, PAGE, 0)
    if checkpoint(lambda n: poke(area + n % COUNT * 2 * PAGE + 64, b"%016d" % n)):
        poke(area + 5000 * 2 * PAGE, b"tampered")
    for n in range(COUNT):
        assert peek(area + 2 * n * PAGE, 16) == pattern(n, 16), n


run(main)
