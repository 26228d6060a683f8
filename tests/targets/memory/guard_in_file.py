"""Guard pages in private and shared file mappings."""

import os

from target_api import DIR, PAGE, Skip, accessible, call, checkpoint, mmap, pattern, peek, poke, run


def main():
    fd = os.open(DIR / "data", os.O_RDWR | os.O_CREAT)
    os.write(fd, pattern(1, 8 * PAGE))
    areas = [mmap(8 * PAGE, 3, flags, fd) for flags in (2, 1)]
    for area in areas:
        poke(area + PAGE, pattern(1, 2 * PAGE)[PAGE:])
        try:
            call("madvise", area + 4 * PAGE, 2 * PAGE, 102)
        except OSError as error:
            raise Skip(f"no guard pages in files: {error}") from error
    if checkpoint():
        call("madvise", areas[0], 8 * PAGE, 103)
    for area in areas:
        assert [accessible(area + n * PAGE) for n in range(8)] == [True] * 4 + [False] * 2 + [True] * 2, area
        assert peek(area, 4 * PAGE) == pattern(1, 4 * PAGE)
        call("madvise", area + 4 * PAGE, 2 * PAGE, 103)
        assert peek(area + 4 * PAGE, PAGE) == pattern(1, 8 * PAGE)[4 * PAGE : 5 * PAGE]


run(main)
