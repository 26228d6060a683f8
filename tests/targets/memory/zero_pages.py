"""Data overwritten with zeros, pages of zeros that are there, and the shared zero page."""

from target_api import PAGE, checkpoint, mmap, pattern, peek, poke, run


def main():
    area = mmap(12 * PAGE)
    for page in range(4):
        poke(area + page * PAGE, bytes(PAGE))
        peek(area + (page + 4) * PAGE, 8)
        poke(area + (page + 8) * PAGE, pattern(page))
    round_ = {"n": 0}

    def step(n):
        round_["n"] = n
        for page in range(8, 12):
            poke(area + page * PAGE, bytes(PAGE) if n % 2 else pattern(n))

    if checkpoint(step):
        poke(area, b"!")
    n = round_["n"]
    assert peek(area, 8 * PAGE) == bytes(8 * PAGE)
    assert peek(area + 8 * PAGE, PAGE) == (bytes(PAGE) if n % 2 else pattern(n))


run(main)
