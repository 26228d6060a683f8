"""A mapping of a file on overlayfs that was copied up since: it shows the old bytes, and no path leads to them."""

import os

from target_api import DIR, PAGE, Skip, call, checkpoint, libc, mmap, peek, run


def main():
    for name in ("lower", "upper", "work", "merged"):
        (DIR / name).mkdir()
    (DIR / "lower/file").write_bytes(b"old" * PAGE)
    options = f"lowerdir={DIR}/lower,upperdir={DIR}/upper,workdir={DIR}/work"
    if libc.mount(b"overlay", os.fsencode(DIR / "merged"), b"overlay", 0, options.encode()):
        raise Skip("no overlayfs may be mounted here")
    try:
        fd = os.open(DIR / "merged/file", os.O_RDONLY)
        area = mmap(2 * PAGE, 1, 2, fd)
        writer = os.open(DIR / "merged/file", os.O_RDWR)
        os.pwrite(writer, b"new" * PAGE, 0)
        if peek(area, 3) != b"old":
            raise Skip("the mapping shows the new file")
        os.close(fd)
        os.close(writer)
        if checkpoint():
            call("munmap", area, PAGE)
            area = mmap(PAGE)
        assert peek(area, 3) == b"old"
    finally:
        libc.umount2(os.fsencode(DIR / "merged"), 2)


run(main)
