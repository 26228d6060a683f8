"""mremap(MREMAP_DONTUNMAP): the old place is empty, the new one has the bytes."""

from target_api import PAGE, Skip, call, checkpoint, mmap, pattern, peek, poke, run


def main():
    old = mmap(8 * PAGE)
    poke(old, pattern(1, 8 * PAGE))
    try:
        new = call("mremap", old, 8 * PAGE, 8 * PAGE, 1 | 4, 0)
    except OSError as error:
        raise Skip(f"no MREMAP_DONTUNMAP: {error}") from error
    poke(old + PAGE, b"again")
    if checkpoint(lambda n: poke(old + 2 * PAGE, b"%016d" % n)):
        poke(new, b"tampered")
    assert peek(new, 8 * PAGE) == pattern(1, 8 * PAGE)
    assert peek(old, PAGE) == bytes(PAGE) and peek(old + PAGE, 8) == b"again\0\0\0"


run(main)
