"""Places where what is mapped is of another kind in every round: anonymous, files, memfds, shared, none, nothing."""

import os

from target_api import DIR, PAGE, accessible, call, checkpoint, mmap, pattern, peek, poke, run

PAGES, PLACES = 8, 16
SIZE = PAGES * PAGE
SHARED, PRIVATE, FIXED, ANONYMOUS, STACK = 1, 2, 0x10, 0x20, 0x20100
KINDS = ("anonymous", "file", "file-shared", "memfd", "memfd-shared", "nameless", "nameless-shared", "shared")
KINDS += ("none", "nothing", "stack")


def source(fd, letter):
    os.ftruncate(fd, SIZE)
    os.pwrite(fd, letter * SIZE, 0)
    return fd, letter


def main():
    sources = {
        "file": source(os.open(DIR / "file", os.O_RDWR | os.O_CREAT), b"F"),
        "memfd": source(os.memfd_create("memory"), b"M"),
        "nameless": source(os.open(DIR, os.O_TMPFILE | os.O_RDWR), b"N"),
    }
    base = mmap(PLACES * SIZE)
    model = {}

    def put(place, kind, seed):
        """Map something else there; the model holds the bytes, or None where nothing is."""
        at = base + place * SIZE
        call("munmap", at, SIZE)
        name, _, how = kind.partition("-")
        content = bytearray(SIZE)
        if kind == "nothing":
            model[place] = None
            return
        if name in sources:
            fd, letter = sources[name]
            content = bytearray(letter * SIZE)
            mmap(SIZE, 1 if how else 3, (SHARED if how else PRIVATE) | FIXED, fd, 0, at)
        else:
            flags = {"shared": SHARED, "stack": PRIVATE | STACK}.get(kind, PRIVATE)
            mmap(SIZE, 3, flags | ANONYMOUS | FIXED, -1, 0, at)
        for page in range(seed % 3, 0 if how else PAGES, 3):
            poke(at + page * PAGE, pattern(seed + page))
            content[page * PAGE : (page + 1) * PAGE] = pattern(seed + page)
        if kind == "none":
            call("mprotect", at, SIZE, 0)
        model[place] = kind, bytes(content)

    for place in range(PLACES):
        put(place, KINDS[place % len(KINDS)], place)

    def step(count):
        for seed in range(5 * count + 100, 5 * count + 105):
            put(seed * 7 % PLACES, KINDS[seed * 5 % len(KINDS)], seed)

    if checkpoint(step):
        put(0, "anonymous", 7)
        poke(base, b"tampered")
    for place, wanted in model.items():
        at = base + place * SIZE
        if wanted is None:
            assert not accessible(at), place
            continue
        kind, content = wanted
        if kind == "none":
            assert not accessible(at), place
            call("mprotect", at, SIZE, 1)
        assert peek(at, SIZE) == content, (place, kind)


run(main)
