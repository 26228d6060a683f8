"""Guard pages (MADV_GUARD_INSTALL) keep faulting, their neighbours keep their bytes."""

from target_api import PAGE, Skip, accessible, call, checkpoint, mmap, pattern, peek, poke, run


def main():
    area = mmap(8 * PAGE)
    poke(area, pattern(1, 8 * PAGE))
    try:
        call("madvise", area + 2 * PAGE, 2 * PAGE, 102)
    except OSError as error:
        raise Skip(f"no guard pages: {error}") from error
    if checkpoint():
        call("madvise", area + 2 * PAGE, PAGE, 103)
    assert [accessible(area + n * PAGE) for n in range(8)] == [True] * 2 + [False] * 2 + [True] * 4
    assert peek(area + 4 * PAGE, PAGE) == pattern(1, 8 * PAGE)[4 * PAGE : 5 * PAGE]


run(main)
