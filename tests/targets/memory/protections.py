"""Every protection that a private mapping can have, with data beneath."""

from itertools import product

from target_api import PAGE, call, checkpoint, mmap, pattern, peek, poke, run, vma


def main():
    areas = {}
    for prot, shared in product(range(8), (False, True)):
        area = mmap(3 * PAGE, 3, 0x21 if shared else 0x22)
        poke(area, pattern(prot, 2 * PAGE))
        call("mprotect", area, 3 * PAGE, prot)
        areas[area] = prot, shared
    if checkpoint():
        call("mprotect", next(iter(areas)), PAGE, 1)
    for area, (prot, shared) in areas.items():
        said = vma(area)[""].split()[1]
        assert said == "".join((c if prot >> i & 1 else "-") for i, c in enumerate("rwx")) + "ps"[shared], said
        call("mprotect", area, 3 * PAGE, 3)
        assert peek(area, 3 * PAGE) == pattern(prot, 2 * PAGE) + bytes(PAGE)
        poke(area + 2 * PAGE, b"new")


run(main)
