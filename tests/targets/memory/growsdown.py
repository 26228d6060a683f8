"""A MAP_GROWSDOWN mapping keeps its data and still grows."""

from target_api import PAGE, checkpoint, mmap, peek, poke, run, vma


def main():
    area = mmap(300 * PAGE, 0)
    top = area + 298 * PAGE
    mmap(2 * PAGE, 3, 0x132, address=top)
    mmap(298 * PAGE, 0, 0x4032, address=area)
    poke(top + 8, b"downwards")
    if checkpoint():
        poke(top + 8, b"upwards")
    assert peek(top + 8, 9) == b"downwards"
    assert "gd" in vma(top)["VmFlags"].split()


run(main)
