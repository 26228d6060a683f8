"""Data on the brk heap, which can still grow afterwards."""

from target_api import PAGE, call, checkpoint, pattern, peek, poke, run


def main():
    start = call("sbrk", 64 * PAGE)
    poke(start, pattern(3, 64 * PAGE))
    end = call("sbrk", 0)
    if checkpoint(lambda n: poke(start + n % 64 * PAGE, pattern(3, 64 * PAGE)[:16])):
        poke(start + 99, b"!")
    expected = bytearray(pattern(3, 64 * PAGE))
    assert peek(start, 64 * PAGE) == expected
    now = call("sbrk", 0)
    assert now >= end, (hex(end), hex(now))
    assert call("sbrk", PAGE) == now
    poke(now, b"x" * PAGE)


run(main)
