"""The list of mappings is the same, line by line, and so are cmdline, environ, auxv and exe."""

import os
import sys
from pathlib import Path

from target_api import PAGE, call, checkpoint, mmap, poke, run


def view():
    maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    return [(m[0], m[1], m[2], " ".join(m[5:])) for m in maps if not m[5:] or "[heap]" not in m[5]]


def main():
    _kept = [sys.intern(f"name {n}") for n in range(12000)]  # or the interpreter's own table of names may grow later
    mmap(8 * PAGE)
    mmap(4 * PAGE, 1, 0x21)
    call("mprotect", mmap(5 * PAGE), PAGE, 0)
    view()
    rest = [Path(f"/proc/self/{name}").read_bytes() for name in ("cmdline", "environ", "auxv")]
    exe = os.readlink("/proc/self/exe")
    room = mmap(64 * PAGE)
    before = view()
    if checkpoint():
        call("munmap", room, PAGE)
    after = view()
    assert set(before) == set(after), set(before) ^ set(after)
    assert rest == [Path(f"/proc/self/{name}").read_bytes() for name in ("cmdline", "environ", "auxv")]
    assert exe == os.readlink("/proc/self/exe")
    poke(room, b"x")


run(main)
