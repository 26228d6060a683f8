"""/dev/zero mapped privately and shared."""

import os

from target_api import PAGE, checkpoint, child, eventually, exit_code, mmap, pattern, peek, poke, run, vma


def main():
    fd = os.open("/dev/zero", os.O_RDWR)
    private, shared = mmap(4 * PAGE, 3, 2, fd), mmap(4 * PAGE, 3, 1, fd)
    os.close(fd)
    poke(private + PAGE, pattern(1))
    poke(shared + PAGE, pattern(2))
    pid = child(lambda: eventually(lambda: peek(shared, 1) == b"!"))
    said = vma(private)[""].split()[5:]
    if checkpoint(lambda n: poke(shared + 3 * PAGE, b"%016d" % n)):
        poke(private + PAGE, b"tampered")
    assert peek(private, 4 * PAGE) == bytes(PAGE) + pattern(1) + bytes(2 * PAGE)
    assert peek(shared + PAGE, PAGE) == pattern(2)
    assert vma(private)[""].split()[5:] == said
    poke(shared, b"!")
    assert exit_code(pid) == 0


run(main)
