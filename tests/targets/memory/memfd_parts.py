"""Parts of a memfd at many offsets, some twice, the descriptor closed, in two tasks."""

import os

from target_api import PAGE, call, checkpoint, child, eventually, exit_code, mmap, pattern, peek, poke, run


def main():
    fd = os.memfd_create("parts")
    os.ftruncate(fd, 64 * PAGE)
    os.pwrite(fd, pattern(1, 64 * PAGE), 0)
    areas = [mmap(2 * PAGE, 3, 1, fd, n * 4 * PAGE) for n in range(16)]
    twice = mmap(2 * PAGE, 1, 1, fd, 4 * PAGE)
    os.close(fd)
    call("munmap", areas[3], PAGE)
    pid = child(lambda: eventually(lambda: peek(twice, 1) == b"!") or poke(areas[5], b"?"))
    if checkpoint(lambda n: poke(areas[9], b"%016d" % n)):
        poke(areas[1] + PAGE, b"tampered")
    assert peek(twice, 2 * PAGE) == pattern(1, 6 * PAGE)[4 * PAGE :]
    assert peek(areas[3] + PAGE, PAGE) == pattern(1, 64 * PAGE)[13 * PAGE : 14 * PAGE]
    poke(areas[1], b"!")
    assert exit_code(pid) == 0 and peek(areas[5], 1) == b"?"
    grown = call("mremap", areas[0], 2 * PAGE, 64 * PAGE, 1, 0)
    assert peek(grown + 2 * PAGE, 2 * PAGE) == pattern(1, 64 * PAGE)[2 * PAGE : 4 * PAGE]


run(main)
