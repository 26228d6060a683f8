"""MADV_FREE, MADV_COLD and MADV_PAGEOUT: advice that may move pages, but not change those written after."""

from target_api import PAGE, call, checkpoint, mmap, pattern, peek, poke, run


def main():
    area = mmap(48 * PAGE)
    poke(area, pattern(1, 48 * PAGE))
    call("madvise", area, 16 * PAGE, 8)  # MADV_FREE
    poke(area + PAGE, pattern(2))
    for advice, at in ((20, 16), (21, 32)):
        try:
            call("madvise", area + at * PAGE, 16 * PAGE, advice)
        except OSError:
            pass
    if checkpoint(lambda n: poke(area + 20 * PAGE, b"%016d" % n)):
        poke(area + PAGE, b"tampered")
    assert peek(area + PAGE, PAGE) == pattern(2)
    for page in (*range(16), *range(16, 20), *range(21, 48)):
        there = peek(area + page * PAGE, PAGE)
        assert (
            page == 1
            or there == pattern(1, 48 * PAGE)[page * PAGE : (page + 1) * PAGE]
            or (page < 16 and there == bytes(PAGE))
        ), page


run(main)
