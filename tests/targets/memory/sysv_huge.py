"""A SysV segment of huge pages (SHM_HUGETLB)."""

import ctypes

from huge_pages import HUGE, allowed
from target_api import Skip, call, checkpoint, libc, pattern, peek, poke, run, vma

libc.shmat.restype = ctypes.c_long


def main():
    with allowed(8):
        body()


def body():
    try:
        segment = call("shmget", 0, 2 * HUGE, 0o5600)
    except OSError as error:
        raise Skip(f"no segment of huge pages: {error}") from error
    area = libc.shmat(segment, None, 0)
    call("shmctl", segment, 0, 0)
    poke(area + HUGE, pattern(1, 9000))
    if checkpoint(lambda n: poke(area, b"%016d" % n)):
        poke(area + HUGE, b"tampered")
    assert peek(area + HUGE, 9000) == pattern(1, 9000)
    assert vma(area)["KernelPageSize"] == "2048 kB"


run(main)
