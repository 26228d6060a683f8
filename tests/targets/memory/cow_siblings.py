"""Memory shared copy-on-write by a parent, its children and a grandchild: each sees its own bytes."""

from target_api import PAGE, checkpoint, child, exit_code, mmap, pattern, peek, poke, run, wait_for_go

PAGES = 256


def expected(seed, changed):
    data = bytearray(pattern(1, PAGES * PAGE))
    for page, text in changed.items():
        data[page * PAGE : page * PAGE + len(text)] = text
    return seed, bytes(data)


def main():
    area = mmap(PAGES * PAGE)
    poke(area, pattern(1, PAGES * PAGE))

    def grandchild():
        poke(area + 30 * PAGE, b"grandchild")
        wait_for_go()
        return peek(area, PAGES * PAGE) != expected(0, {10: b"first", 30: b"grandchild"})[1]

    def first():
        poke(area + 10 * PAGE, b"first")
        pid = child(grandchild)
        wait_for_go()
        return peek(area, PAGES * PAGE) != expected(0, {10: b"first"})[1] or exit_code(pid)

    def second():
        poke(area + 20 * PAGE, b"second")
        poke(area + 21 * PAGE, bytes(PAGE))
        wait_for_go()
        return peek(area, PAGES * PAGE) != expected(0, {20: b"second", 21: bytes(PAGE)})[1]

    pids = [child(first), child(second)]
    poke(area + 10 * PAGE, b"parent")
    if checkpoint(lambda n: poke(area + 200 * PAGE, pattern(1, 201 * PAGE)[200 * PAGE :])):
        poke(area + 50 * PAGE, b"tampered")
    assert peek(area, PAGES * PAGE) == expected(0, {10: b"parent"})[1]
    assert [exit_code(pid) for pid in pids] == [0, 0]


run(main)
