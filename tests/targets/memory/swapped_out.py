"""Pages in swap: private, of a file, and of shared memory. Needs a machine with swap."""

import os

from target_api import DIR, PAGE, Skip, call, checkpoint, mmap, pattern, peek, poke, run, vma


def main():
    fd = os.open(DIR / "data", os.O_RDWR | os.O_CREAT)
    os.write(fd, pattern(9, 64 * PAGE))
    areas = [mmap(64 * PAGE), mmap(64 * PAGE, 3, 2, fd), mmap(64 * PAGE, 3, 0x21)]
    for n, area in enumerate(areas):
        poke(area, pattern(n, 64 * PAGE))
        mmap(PAGE, 0)
        call("madvise", area, 64 * PAGE, 21)  # MADV_PAGEOUT
    if vma(areas[0])["Swap"] == "0 kB":
        raise Skip("nothing goes to swap here")

    def step(n):
        for area in areas:
            poke(area + n % 32 * PAGE, b"%016d" % n)
            call("madvise", area, 64 * PAGE, 21)

    if checkpoint(step):
        poke(areas[0] + 40 * PAGE, b"tampered")
    for n, area in enumerate(areas):
        assert peek(area + 32 * PAGE, 32 * PAGE) == pattern(n, 64 * PAGE)[32 * PAGE :], n


run(main)
