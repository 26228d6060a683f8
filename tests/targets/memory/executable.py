"""Machine code written into an anonymous page runs afterwards."""

import ctypes

from target_api import PAGE, call, checkpoint, mmap, poke, run


def main():
    area = mmap(PAGE)
    poke(area, b"\xb8\x2a\x00\x00\x00\xc3")  # mov eax, 42; ret
    call("mprotect", area, PAGE, 5)
    function = ctypes.CFUNCTYPE(ctypes.c_int)(area)
    assert function() == 42
    if checkpoint():
        call("mprotect", area, PAGE, 7)
        poke(area, b"\xb8\x2b\x00\x00\x00\xc3")
    assert function() == 42


run(main)
