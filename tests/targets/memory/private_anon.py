"""A private anonymous mapping that keeps changing, against a model of it."""

from target_api import PAGE, checkpoint, mmap, pattern, peek, poke, run


def main():
    area = mmap(64 * PAGE)
    model = {}

    def step(n):
        page = n * 7 % 64
        model[page] = pattern(n)
        poke(area + page * PAGE, model[page])

    for n in range(30):
        step(n)
    if checkpoint(step):
        poke(area + 3 * PAGE, b"tampered")
    for page in range(64):
        assert peek(area + page * PAGE, PAGE) == model.get(page, bytes(PAGE)), page


run(main)
