"""Pages dropped and written again between the rounds: what was dropped reads as zero."""

from target_api import PAGE, call, checkpoint, mmap, pattern, peek, poke, run


def main():
    area = mmap(32 * PAGE)
    model = [0] * 32

    def step(n):
        page = n * 5 % 32
        if n % 3 == 2:
            call("madvise", area + page * PAGE, PAGE, 4)
            model[page] = 0
            if n % 2:
                peek(area + page * PAGE, 1)
        else:
            poke(area + page * PAGE, pattern(n + 1))
            model[page] = n + 1

    for n in range(64):
        step(n)
    if checkpoint(step):
        model[0] += 1
    for page, n in enumerate(model):
        assert peek(area + page * PAGE, PAGE) == (pattern(n) if n else bytes(PAGE)), page


run(main)
