"""Anonymous shared memory that mremap made larger than the object beneath, and one made smaller."""

import signal

from target_api import PAGE, accessible, call, checkpoint, mmap, pattern, peek, poke, run


def main():
    signal.signal(signal.SIGBUS, signal.SIG_DFL)
    area = mmap(4 * PAGE, 3, 0x21)
    small = mmap(8 * PAGE, 3, 0x21)
    poke(area, pattern(1, 4 * PAGE))
    poke(small, pattern(2, 8 * PAGE))
    area = call("mremap", area, 4 * PAGE, 8 * PAGE, 1, 0)
    call("mremap", small, 8 * PAGE, 2 * PAGE, 0, 0)
    if checkpoint():
        poke(area, b"tampered")
    assert peek(area, 4 * PAGE) == pattern(1, 4 * PAGE)
    assert [accessible(area + n * PAGE) for n in (3, 4, 7)] == [True, False, False]
    assert peek(small, 2 * PAGE) == pattern(2, 2 * PAGE)
    small = call("mremap", small, 2 * PAGE, 8 * PAGE, 1, 0)
    assert peek(small, 8 * PAGE) == pattern(2, 8 * PAGE)


run(main)
