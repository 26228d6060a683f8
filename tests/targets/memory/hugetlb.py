"""MAP_HUGETLB memory, private and shared with a child, and a memfd of huge pages."""

import os

from huge_pages import HUGE, allowed
from target_api import Skip, checkpoint, child, eventually, exit_code, mmap, pattern, peek, poke, run, vma


def main():
    with allowed(32):
        body()


def body():
    try:
        private, shared = mmap(3 * HUGE, 3, 0x40022), mmap(2 * HUGE, 3, 0x40021)
        fd = os.memfd_create("huge", os.MFD_HUGETLB)
        os.ftruncate(fd, 2 * HUGE)
        object_ = mmap(2 * HUGE, 3, 1, fd)
        copied = mmap(2 * HUGE, 3, 2, fd)
        poke(private, pattern(1, HUGE))
    except OSError as error:
        raise Skip(f"no huge pages: {error}") from error
    poke(private + 2 * HUGE + 5000, b"last")
    poke(shared + HUGE, pattern(2, 8192))
    poke(object_ + 7, b"memfd")
    poke(copied + HUGE, b"mine")
    areas = (private, shared, object_, copied)
    seen = [(vma(area)[""].split()[5:], vma(area)["KernelPageSize"]) for area in areas]
    pid = child(lambda: eventually(lambda: peek(shared, 1) == b"!") or poke(object_, b"?"))

    def step(n):
        poke(private + 100, b"%016d" % n)
        poke(shared + 100, b"%016d" % n)

    if checkpoint(step):
        poke(object_ + 7, b"tampered")
    assert [(vma(area)[""].split()[5:], vma(area)["KernelPageSize"]) for area in areas] == seen
    assert peek(private + 4096, HUGE - 4096) == pattern(1, HUGE)[4096:]
    assert peek(private + 2 * HUGE + 4990, 14) == bytes(10) + b"last"
    assert peek(shared + HUGE, 8192) == pattern(2, 8192)
    assert peek(copied, 16) == peek(object_, 16) == bytes(7) + b"memfd" + bytes(4)
    assert peek(copied + HUGE, 4) == b"mine" and peek(object_ + HUGE, 4) == bytes(4)
    poke(shared, b"!")
    assert exit_code(pid) == 0 and peek(object_, 1) == b"?"


run(main)
