"""mseal: neither protection nor place of the mapping can be changed."""

import errno

from target_api import PAGE, Skip, call, checkpoint, mmap, pattern, peek, poke, run


def denied(name, *args):
    try:
        call(name, *args)
    except OSError as error:
        return error.errno == errno.EPERM
    return False


def main():
    area, frozen = mmap(4 * PAGE), mmap(4 * PAGE)
    poke(area, pattern(5, 4 * PAGE))
    poke(frozen, pattern(6, 4 * PAGE))
    call("mprotect", frozen, 4 * PAGE, 1)
    try:
        call("syscall", 462, area, 4 * PAGE, 0)
        call("syscall", 462, frozen, 4 * PAGE, 0)
    except OSError as error:
        raise Skip(f"no mseal: {error}") from error
    if checkpoint(lambda n: poke(area + 3 * PAGE, b"%016d" % n)):
        poke(area, b"tampered")
    assert denied("munmap", area, PAGE) and denied("mprotect", frozen, PAGE, 3)
    assert peek(area, 3 * PAGE) == pattern(5, 3 * PAGE)
    assert peek(frozen, 4 * PAGE) == pattern(6, 4 * PAGE)


run(main)
