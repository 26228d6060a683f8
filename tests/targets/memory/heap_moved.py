"""A brk heap that grew, shrank, and lost its end to a mapping."""

from target_api import PAGE, call, checkpoint, mmap, pattern, peek, poke, run


def main():
    start = call("sbrk", 0)
    call("brk", start + 128 * PAGE)
    poke(start, pattern(1, 128 * PAGE))
    call("brk", start + 32 * PAGE + 100)
    above = -(-(start + 40 * PAGE) // PAGE) * PAGE
    mmap(PAGE, 3, 0x100022, address=above)
    poke(above, b"in the way")
    if checkpoint():
        poke(start, b"tampered")
    assert peek(start, 32 * PAGE) == pattern(1, 32 * PAGE)
    assert call("sbrk", 0) >= start + 32 * PAGE + 100
    assert peek(above, 10) == b"in the way"
    try:
        call("sbrk", 64 * PAGE)
    except OSError:
        return
    raise AssertionError("the heap grew into a mapping")


run(main)
