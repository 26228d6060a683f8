"""A hundred gibibytes that are not reserved, with a few pages in them."""

from target_api import PAGE, checkpoint, mmap, peek, poke, run

SIZE = 100 << 30


def main():
    area = mmap(SIZE, 3, 0x4022)
    places = [0, PAGE, SIZE // 3 // PAGE * PAGE, SIZE // 2, SIZE - PAGE]
    for place in places:
        poke(area + place, b"%020d" % place)
    if checkpoint(lambda n: poke(area + (n * 7919 % 1000) * (64 << 20) + 2 * PAGE, b"%08d" % n)):
        poke(area, b"tampered")
    for place in places:
        assert peek(area + place, 20) == b"%020d" % place
    assert peek(area + SIZE - 2 * PAGE, PAGE) == bytes(PAGE)


run(main)
