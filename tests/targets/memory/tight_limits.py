"""Limits of memory that are hardly more than what is in use, or already below it."""

import resource

from target_api import PAGE, Skip, checkpoint, mmap, pattern, peek, poke, run, status


def main():
    area, expected = mmap(64 * PAGE), pattern(1, 64 * PAGE)
    poke(area, expected)
    size, data = (int(status(name).split()[0]) << 10 for name in ("VmSize", "VmData"))
    limits = {
        resource.RLIMIT_AS: size + (1 << 20),
        resource.RLIMIT_DATA: data + (1 << 19),
        resource.RLIMIT_STACK: 8 << 10,
        resource.RLIMIT_MEMLOCK: 0,
    }
    for number, value in limits.items():
        resource.setrlimit(number, (value, value))
    if checkpoint(same=False):
        poke(area, b"tampered")
    for number, value in limits.items():
        assert resource.getrlimit(number) == (value, value), number
    for page in range(64):
        assert peek(area + page * PAGE, 99) == expected[page * PAGE : page * PAGE + 99]
    try:
        mmap(16 << 20)
    except OSError:
        return
    raise Skip("the limit is not enforced here")


run(main)
