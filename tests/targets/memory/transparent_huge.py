"""Transparent huge pages of which single bytes change."""

from target_api import call, checkpoint, mmap, peek, poke, run

HUGE = 1 << 21


def main():
    room = mmap(5 * HUGE)
    area = -(-room // HUGE) * HUGE
    call("madvise", area, 4 * HUGE, 14)
    for n in range(4):
        poke(area + n * HUGE, bytes([n + 1]) * HUGE)
    last = {}

    def step(n):
        offset = n * 4097 % (4 * HUGE)
        poke(area + offset, b"\xee")
        last[offset] = 0xEE

    if checkpoint(step):
        poke(area + HUGE, b"\x00")
    for n in range(4):
        expected = bytearray(bytes([n + 1]) * HUGE)
        for offset in last:
            if offset // HUGE == n:
                expected[offset % HUGE] = 0xEE
        assert peek(area + n * HUGE, HUGE) == bytes(expected), n


run(main)
