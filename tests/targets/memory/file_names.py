"""Private mappings of files that were renamed, deleted, and replaced by others under the same name."""

import os

from target_api import DIR, PAGE, checkpoint, mmap, pattern, peek, poke, run


def mapped(name, seed):
    fd = os.open(DIR / name, os.O_RDWR | os.O_CREAT)
    os.write(fd, pattern(seed, 4 * PAGE))
    area = mmap(4 * PAGE, 3, 2, fd)
    os.close(fd)
    poke(area + PAGE, pattern(100 + seed))
    return area


def main():
    areas = [mapped(name, n) for n, name in enumerate(("renamed", "deleted", "replaced", "linked"))]
    os.rename(DIR / "renamed", DIR / "other name")
    os.unlink(DIR / "deleted")
    (DIR / "new").write_bytes(b"something else" * 4000)
    os.rename(DIR / "new", DIR / "replaced")
    os.link(DIR / "linked", DIR / "second name")
    os.unlink(DIR / "linked")
    if checkpoint():
        poke(areas[1], b"tampered")
    for n, area in enumerate(areas):
        assert peek(area, 4 * PAGE) == pattern(n) + pattern(100 + n) + pattern(n, 4 * PAGE)[2 * PAGE :], n
    assert (DIR / "replaced").read_bytes() == b"something else" * 4000


run(main)
