"""mlock, mlock2(MLOCK_ONFAULT), MAP_LOCKED and locked PROT_NONE memory."""

import ctypes

from target_api import PAGE, Skip, call, checkpoint, mmap, pattern, peek, poke, run, status, vma


def flags(area):
    return set(vma(area)["VmFlags"].split()) & {"lo", "lf"}


def main():
    try:
        plain = mmap(4 * PAGE, 3, 0x2022)
    except OSError as error:
        raise Skip("locking is not allowed") from error
    mmap(PAGE, 0)
    fault = mmap(16 * PAGE)
    mmap(PAGE, 0)
    silent = mmap(4 * PAGE, 0)
    mmap(PAGE, 0)
    read_only = mmap(4 * PAGE)
    mmap(PAGE, 0)
    poke(plain, pattern(1, 4 * PAGE))
    poke(fault + PAGE, pattern(2))
    poke(read_only, pattern(3))
    call("mlock2", fault, 16 * PAGE, 1)
    assert ctypes.CDLL(None).mlock(ctypes.c_void_p(silent), 4 * PAGE) == -1
    call("mprotect", read_only, 4 * PAGE, 1)
    call("mlock", read_only, 4 * PAGE)
    before = [flags(area) for area in (plain, fault, silent, read_only)]
    locked, resident = status("VmLck"), vma(fault)["Rss"]
    if checkpoint():
        call("munlockall")
    assert [flags(area) for area in (plain, fault, silent, read_only)] == before
    assert status("VmLck") == locked
    assert peek(plain, 4 * PAGE) == pattern(1, 4 * PAGE)
    assert peek(fault + PAGE, PAGE) == pattern(2) and peek(read_only, PAGE) == pattern(3)
    assert vma(fault)["Rss"] == resident


run(main)
