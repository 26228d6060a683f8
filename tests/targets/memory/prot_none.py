"""Data behind PROT_NONE: unreadable to the task, and still there afterwards."""

from target_api import PAGE, accessible, call, checkpoint, mmap, pattern, peek, poke, run


def main():
    area = mmap(16 * PAGE)
    data = pattern(7, 16 * PAGE)
    poke(area, data)
    call("mprotect", area + 4 * PAGE, 8 * PAGE, 0)
    if checkpoint():
        call("munmap", area + 5 * PAGE, PAGE)
        mmap(PAGE, 0, 0x32, address=area + 5 * PAGE)
    assert [accessible(area + n * PAGE) for n in range(16)] == [True] * 4 + [False] * 8 + [True] * 4
    call("mprotect", area, 16 * PAGE, 3)
    assert peek(area, 16 * PAGE) == data


run(main)
