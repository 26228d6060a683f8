"""Locked memory is locked again."""

from target_api import PAGE, Skip, call, checkpoint, mmap, pattern, peek, poke, run, status


def main():
    area = mmap(16 * PAGE)
    poke(area, pattern(4, 16 * PAGE))
    try:
        call("mlock", area + 4 * PAGE, 8 * PAGE)
    except OSError as error:
        raise Skip("mlock is not allowed") from error
    if checkpoint():
        call("munlock", area, 16 * PAGE)
    assert status("VmLck") == "32 kB", status("VmLck")
    assert peek(area, 16 * PAGE) == pattern(4, 16 * PAGE)


run(main)
