"""The last page of the address space, and the room that ckpt's own code likes to take."""

from target_api import PAGE, checkpoint, mmap, pattern, peek, poke, run

LAST = (1 << 47) - 2 * PAGE
PLACES = (LAST, 0x10_0000, 0x20_0000, 0x30_0000, 0x7000_0000_0000)


def main():
    for n, place in enumerate(PLACES):
        assert mmap(PAGE, 3, 0x100022, address=place) == place
        poke(place, pattern(n))
    if checkpoint():
        poke(LAST, b"tampered")
    for n, place in enumerate(PLACES):
        assert peek(place, PAGE) == pattern(n), hex(place)


run(main)
