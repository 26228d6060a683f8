"""Mappings that change places by mremap between the rounds, mostly without being written to."""

from target_api import PAGE, call, checkpoint, mmap, pattern, peek, poke, run

PAGES = 16
SIZE = PAGES * PAGE
MAYMOVE_FIXED = 3


def main():
    one, two, aside = mmap(SIZE), mmap(SIZE), mmap(SIZE)
    model = {at: [pattern(at + n) for n in range(PAGES)] for at in (one, two)}
    for at, pages in model.items():
        for n, page in enumerate(pages):
            poke(at + n * PAGE, page)

    def step(count):
        for old, new in ((one, aside), (two, one), (aside, two)):
            call("mremap", old, SIZE, SIZE, MAYMOVE_FIXED, new)
        model[one], model[two] = model[two], model[one]
        if count % 3 == 0:
            model[one][count % PAGES] = pattern(count)
            poke(one + count % PAGES * PAGE, pattern(count))

    if checkpoint(step):
        poke(one, b"tampered")
    for at, pages in model.items():
        for n, page in enumerate(pages):
            assert peek(at + n * PAGE, PAGE) == page, (at == one, n)


run(main)
