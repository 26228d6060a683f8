"""Mapped files whose names hold spaces, line ends, bytes that are no text, and " (deleted)"."""

import os

from target_api import DIR, PAGE, checkpoint, mmap, pattern, peek, poke, run

NAMES = (
    b"two  words ",
    b"line\nend",
    b"\xff\xfe no text",
    b"still there (deleted)",
    b"gone (deleted)",
    b"tab\there\\012",
)


def main():
    areas = []
    for n, name in enumerate(NAMES):
        path = os.path.join(os.fsencode(DIR), name)
        fd = os.open(path, os.O_RDWR | os.O_CREAT)
        os.write(fd, pattern(n, 3 * PAGE))
        private, shared = mmap(3 * PAGE, 3, 2, fd), mmap(3 * PAGE, 3, 1, fd)
        os.close(fd)
        poke(private + PAGE, b"mine")
        if name.startswith(b"gone"):
            os.unlink(path)
        areas.append((private, shared))
    if checkpoint(lambda n: poke(areas[0][1] + 2 * PAGE, b"%016d" % n)):
        poke(areas[1][0] + PAGE, b"tampered")
    for n, (private, shared) in enumerate(areas):
        assert peek(private, PAGE) == peek(shared, PAGE) == pattern(n), NAMES[n]
        assert peek(private + PAGE, 4) == b"mine" and peek(shared + PAGE, 4) != b"mine", NAMES[n]
        poke(shared + PAGE, b"here")
        if not NAMES[n].startswith(b"gone"):
            with open(os.path.join(os.fsencode(DIR), NAMES[n]), "rb") as file:
                assert file.read()[PAGE : PAGE + 4] == b"here", NAMES[n]


run(main)
