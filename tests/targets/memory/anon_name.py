"""Names of anonymous mappings (PR_SET_VMA_ANON_NAME)."""

import ctypes

from target_api import PAGE, Skip, checkpoint, libc, mmap, poke, run, vma


def main():
    area = mmap(4 * PAGE)
    poke(area, b"named")
    name = ctypes.create_string_buffer(b"my arena")
    long = ctypes.c_long
    if libc.prctl(0x53564D41, long(0), long(area), long(4 * PAGE), name):
        raise Skip("mappings cannot be named on this kernel")
    if checkpoint():
        libc.prctl(0x53564D41, long(0), long(area), long(4 * PAGE), None)
    assert "[anon:my arena]" in vma(area)[""], vma(area)[""]


run(main)
