"""One anonymous shared object of which parent and child have different parts, with different rights."""

from target_api import PAGE, call, checkpoint, child, eventually, exit_code, mmap, pattern, peek, poke, run


def other(area):
    call("munmap", area, 4 * PAGE)
    call("mprotect", area + 8 * PAGE, 4 * PAGE, 1)
    eventually(lambda: peek(area + 8 * PAGE, 1) == b"!")
    assert peek(area + 9 * PAGE, 3 * PAGE) == pattern(9, 3 * PAGE)
    return 7


def main():
    area = mmap(16 * PAGE, 3, 0x21)
    poke(area, pattern(1, 8 * PAGE))
    poke(area + 9 * PAGE, pattern(9, 3 * PAGE))
    pid = child(other, area)
    call("munmap", area + 4 * PAGE, 4 * PAGE)
    if checkpoint(lambda n: poke(area + 15 * PAGE, b"%016d" % n)):
        poke(area, b"tampered")
    assert peek(area, 4 * PAGE) == pattern(1, 4 * PAGE)
    poke(area + 8 * PAGE, b"!")
    assert exit_code(pid) == 7


run(main)
