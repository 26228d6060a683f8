"""Machine code that the program made itself, writable, then only executable."""

import ctypes

from target_api import PAGE, call, checkpoint, mmap, poke, run


def main():
    both = mmap(PAGE, 7)
    made = mmap(PAGE)
    poke(both, b"\xb8\x2a\x00\x00\x00\xc3")  # mov eax, 42; ret
    poke(made, b"\xb8\x17\x00\x00\x00\xc3")
    call("mprotect", made, PAGE, 4)
    calls = [ctypes.CFUNCTYPE(ctypes.c_int)(address) for address in (both, made)]
    assert [call_() for call_ in calls] == [42, 23]
    if checkpoint(lambda n: calls[0]()):
        poke(both + 1, b"\0")
    assert [call_() for call_ in calls] == [42, 23]
    poke(both + 1, b"\x07")
    assert calls[0]() == 7


run(main)
