"""Mappings of files that only a file handle leads to: their mount is gone from the tree, or another hides it."""

import os

from target_api import DIR, PAGE, Skip, checkpoint, libc, mmap, peek, poke, run

MS_BIND, MNT_DETACH = 0x1000, 2


def mapped(path):
    fd = os.open(path, os.O_RDWR)
    areas = mmap(2 * PAGE, 3, 1, fd), mmap(2 * PAGE, 3, 2, fd)
    os.close(fd)
    poke(areas[1], b"my own")
    return areas


def main():
    for name in ("there", "gone", "hidden"):
        (DIR / name).mkdir()
    (DIR / "there/file").write_bytes(b"detached" * 1024)
    (DIR / "hidden/file").write_bytes(b"hidden.." * 1024)
    if libc.mount(os.fsencode(DIR / "there"), os.fsencode(DIR / "gone"), None, MS_BIND, None):
        raise Skip("nothing may be mounted here")
    areas = {"detached": mapped(DIR / "gone/file"), "hidden..": mapped(DIR / "hidden/file")}
    libc.umount2(os.fsencode(DIR / "gone"), MNT_DETACH)
    libc.mount(b"none", os.fsencode(DIR / "hidden"), b"tmpfs", 0, b"size=64k")
    (DIR / "hidden/file").write_bytes(b"another one")
    if checkpoint():
        poke(areas["hidden.."][1] + PAGE, b"tampered")
    for text, (shared, private) in areas.items():
        assert peek(shared, PAGE) == text.encode() * 512, text
        assert peek(private, 6) == b"my own" and peek(private + PAGE, PAGE) == text.encode() * 512, text
        poke(shared + PAGE, b"written to the file")
        assert peek(private + PAGE, 19) == b"written to the file", text
    assert (DIR / "there/file").read_bytes()[PAGE:].startswith(b"written to the file")


run(main)
