"""Equal pages in MADV_MERGEABLE memory, which the kernel may merge, and writes to some of them."""

from target_api import PAGE, Skip, call, checkpoint, mmap, pattern, peek, poke, run, vma


def main():
    area = mmap(64 * PAGE)
    try:
        call("madvise", area, 64 * PAGE, 12)
    except OSError as error:
        raise Skip(f"no MADV_MERGEABLE: {error}") from error
    poke(area, pattern(1) * 64)
    if checkpoint(lambda n: poke(area + n % 32 * PAGE + 8, b"%08d" % n)):
        poke(area + 40 * PAGE, b"tampered")
    assert "mg" in vma(area)["VmFlags"].split()
    assert peek(area + 32 * PAGE, 32 * PAGE) == pattern(1) * 32


run(main)
