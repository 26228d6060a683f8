"""Mappings at the lowest address that the kernel allows, and below 4 GiB."""

from pathlib import Path

from target_api import PAGE, checkpoint, mmap, pattern, peek, poke, run


def main():
    lowest = max(int(Path("/proc/sys/vm/mmap_min_addr").read_text()), PAGE)
    low = mmap(4 * PAGE, 3, 0x100032 & ~0x10, address=lowest)
    assert low == lowest
    poke(low, pattern(1, 4 * PAGE))
    middle = mmap(4 * PAGE, 3, 0x62)  # MAP_32BIT
    assert middle < 1 << 32
    poke(middle, pattern(2, 4 * PAGE))
    if checkpoint(lambda n: poke(low + 3 * PAGE, b"%016d" % n)):
        poke(low, b"tampered")
    assert peek(low, 3 * PAGE) == pattern(1, 3 * PAGE)
    assert peek(middle, 4 * PAGE) == pattern(2, 4 * PAGE)
    assert mmap(PAGE, 3, 0x62) < 1 << 32


run(main)
