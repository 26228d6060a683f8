"""Shared mappings of files opened for reading alone, and of one that nobody may write any more."""

import os

from target_api import DIR, PAGE, call, checkpoint, mmap, pattern, peek, poke, run, vma


def main():
    (DIR / "data").write_bytes(pattern(1, 4 * PAGE))
    fd = os.open(DIR / "data", os.O_RDONLY)
    reading = mmap(4 * PAGE, 1, 1, fd)
    os.close(fd)
    fd = os.open(DIR / "data", os.O_RDWR)
    writing, narrowed = mmap(4 * PAGE, 3, 1, fd), mmap(4 * PAGE, 3, 1, fd)
    os.close(fd)
    call("mprotect", narrowed, 4 * PAGE, 1)
    os.chmod(DIR / "data", 0o444)
    flags = [vma(area)["VmFlags"] for area in (reading, writing, narrowed)]
    if checkpoint(lambda n: poke(writing + PAGE, b"%016d" % n)):
        poke(writing, b"tampered")
    assert [vma(area)["VmFlags"] for area in (reading, writing, narrowed)] == flags
    assert peek(reading, PAGE) == pattern(1)
    call("mprotect", narrowed, 4 * PAGE, 3)
    poke(narrowed + 2 * PAGE, b"seen")
    assert peek(reading + 2 * PAGE, 4) == b"seen"
    try:
        call("mprotect", reading, PAGE, 3)
    except PermissionError:
        return
    raise AssertionError("a mapping of a file opened for reading became writable")


run(main)
