"""Two hundred small mappings of alternating protection, some changed in every round."""

from target_api import PAGE, accessible, call, checkpoint, mmap, pattern, peek, poke, run


def main():
    area = mmap(200 * PAGE)
    for page in range(200):
        poke(area + page * PAGE, pattern(page))
        call("mprotect", area + page * PAGE, PAGE, [3, 1, 0, 5][page % 4])

    def step(n):
        page = n % 50 * 4
        poke(area + page * PAGE, pattern(page))
        call("mprotect", area + (n % 50 * 4 + 1) * PAGE, PAGE, 1 if n % 2 else 5)

    if checkpoint(step):
        poke(area + 8 * PAGE, b"tampered")
    for page in range(200):
        assert accessible(area + page * PAGE) == (page % 4 != 2), page
        call("mprotect", area + page * PAGE, PAGE, 1)
        assert peek(area + page * PAGE, PAGE) == pattern(page), page


run(main)
