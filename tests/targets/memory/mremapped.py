"""A mapping that moves and grows between the rounds."""

from target_api import PAGE, call, checkpoint, mmap, pattern, peek, poke, run


def main():
    stage = mmap(1024 * PAGE, 0)
    call("munmap", stage, 1024 * PAGE)
    at = {"area": mmap(16 * PAGE, address=stage, flags=0x32)}
    poke(at["area"], pattern(2, 16 * PAGE))

    def step(n):
        to = stage + (n * 37 % 50) * 16 * PAGE
        if to != at["area"]:
            at["area"] = call("mremap", at["area"], 16 * PAGE, 16 * PAGE, 3, to)
        poke(at["area"] + 15 * PAGE, b"%016d" % n)

    if checkpoint(step):
        poke(at["area"] + 8 * PAGE, b"tampered")
    assert peek(at["area"], 15 * PAGE) == pattern(2, 15 * PAGE)
    call("mremap", at["area"], 16 * PAGE, 64 * PAGE, 1, 0)


run(main)
