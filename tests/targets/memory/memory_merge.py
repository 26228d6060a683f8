"""PR_SET_MEMORY_MERGE: what is mapped afterwards is mergeable too."""

from target_api import PAGE, Skip, checkpoint, mmap, pattern, peek, poke, prctl, run, vma


def main():
    try:
        prctl(67, 1)
    except OSError as error:
        raise Skip(f"no PR_SET_MEMORY_MERGE: {error}") from error
    area = mmap(8 * PAGE)
    poke(area, pattern(1) * 8)
    if checkpoint(lambda n: poke(area + PAGE, b"%016d" % n)):
        prctl(67, 0)
    assert prctl(68) == 1
    assert "mg" in vma(area)["VmFlags"].split()
    assert "mg" in vma(mmap(300 * PAGE))["VmFlags"].split()
    assert peek(area, PAGE) == pattern(1)


run(main)
