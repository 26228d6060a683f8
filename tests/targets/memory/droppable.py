"""MAP_DROPPABLE memory stays droppable."""

from target_api import PAGE, Skip, call, checkpoint, mmap, poke, run, vma


def main():
    try:
        area = mmap(8 * PAGE, 3, 0x28)
    except OSError as error:
        raise Skip(f"no MAP_DROPPABLE: {error}") from error
    poke(area, b"x" * PAGE)
    before = set(vma(area)["VmFlags"].split()) - {"sd", "uw", "um"}
    assert "dp" in before
    if checkpoint():
        call("munmap", area, PAGE)
        mmap(PAGE, 3, 0x32, address=area)
    assert set(vma(area)["VmFlags"].split()) - {"sd", "uw", "um"} == before


run(main)
