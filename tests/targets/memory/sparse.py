"""A gibibyte with a page here and there, more of them as time goes on."""

from target_api import PAGE, checkpoint, mmap, pattern, peek, poke, run


def main():
    pages = (1 << 30) // PAGE
    area = mmap(1 << 30, 3, 0x4022)
    model = {}

    def step(n):
        page = n * 9973 % pages
        model[page] = n
        poke(area + page * PAGE + 64, b"%016d" % n)

    for n in range(100):
        step(n)
    if checkpoint(step):
        model[5] = 5
    for page, n in model.items():
        assert peek(area + page * PAGE, 80) == bytes(64) + pattern(n, 16), page
        assert peek(area + (page + 1) % pages * PAGE, 8) == bytes(8) or (page + 1) in model


run(main)
