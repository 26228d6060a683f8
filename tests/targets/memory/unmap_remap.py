"""Unmapped and mapped again at the same address: the old bytes must not come back."""

from target_api import PAGE, call, checkpoint, mmap, pattern, peek, poke, run


def main():
    area = mmap(48 * PAGE)
    poke(area, pattern(1, 48 * PAGE))
    filled = {}

    def step(n):
        at = n * 11 % 6 * 8
        call("munmap", area + at * PAGE, 8 * PAGE)
        mmap(8 * PAGE, 3, 0x32, address=area + at * PAGE)
        filled[at] = n
        if n % 2:
            poke(area + at * PAGE, pattern(n))

    for n in range(12):
        step(n)
    if checkpoint(step):
        poke(area + 7 * PAGE, b"!")
    for at, n in filled.items():
        assert peek(area + at * PAGE, PAGE) == (pattern(n) if n % 2 else bytes(PAGE)), at
        assert peek(area + (at + 1) * PAGE, 7 * PAGE) == bytes(7 * PAGE), at


run(main)
