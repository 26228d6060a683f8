"""MAP_HUGETLB memory, private, and shared with a child and mapped in part: the same pages of the same size."""

import os
from contextlib import ExitStack

from huge_pages import HUGE, allowed
from target_api import Skip, call, checkpoint, child, eventually, exit_code, mmap, pattern, peek, poke, run, vma


def main():
    with ExitStack() as stack:
        if os.geteuid() == 0:  # else somebody has allowed them before
            stack.enter_context(allowed(8))
        body()


def body():
    try:
        private, shared = mmap(2 * HUGE, 3, 0x40022), mmap(3 * HUGE, 3, 0x40021)
        poke(private, pattern(1, HUGE))
        poke(shared + HUGE, pattern(2, HUGE))
    except OSError as error:
        raise Skip(f"no huge pages: {error}") from error
    call("munmap", shared, HUGE)
    shared += HUGE
    pid = child(lambda: eventually(lambda: peek(shared, 1) == b"!") or poke(shared + HUGE, b"?"))
    if checkpoint(lambda n: poke(private + 100, b"%016d" % n)):
        poke(shared + 8, b"tampered")
    assert {vma(area)["KernelPageSize"] for area in (private, shared)} == {"2048 kB"}
    assert peek(private + 4096, HUGE - 4096) == pattern(1, HUGE)[4096:]
    assert peek(private + HUGE, HUGE) == bytes(HUGE)
    assert peek(shared, HUGE) == pattern(2, HUGE)
    poke(shared, b"!")
    assert exit_code(pid) == 0 and peek(shared + HUGE, 1) == b"?"


run(main)
