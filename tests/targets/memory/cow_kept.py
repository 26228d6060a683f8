"""Pages that parent and child shared copy-on-write are one page each in memory afterwards, too."""

import os
import struct

from target_api import PAGE, Skip, checkpoint, child, eventually, exit_code, mmap, pattern, peek, poke, run

PAGES = 512
FRAME, PRESENT = (1 << 55) - 1, 1 << 63


def frames(pid, area):
    with open(f"/proc/{pid}/pagemap", "rb") as file:
        file.seek(area // PAGE * 8)
        entries = struct.unpack(f"<{PAGES}Q", file.read(8 * PAGES))
    return [entry & FRAME if entry & PRESENT else 0 for entry in entries]


def main():
    area, end = mmap(PAGES * PAGE), mmap(PAGE, 3, 0x21)
    poke(area, pattern(1, PAGES * PAGE))

    def other():
        poke(area + 7 * PAGE, b"own")
        poke(end + 8, b"written")
        eventually(lambda: peek(end, 1) == b"!")
        return peek(area + 7 * PAGE, 3) != b"own" or peek(area + 8 * PAGE, 16) != pattern(1, 16)

    pid = child(other)
    eventually(lambda: peek(end + 8, 7) == b"written", "the child has written")
    if not frames(os.getpid(), area)[0]:
        raise Skip("frame numbers are hidden from this user")
    if checkpoint():
        poke(area, bytes(PAGES * PAGE))
    mine, its = frames(os.getpid(), area), frames(pid, area)
    shared = sum(1 for a, b in zip(mine, its, strict=True) if a == b and a)
    assert shared > PAGES * 9 // 10, f"{shared} of {PAGES} pages are shared"
    assert mine[7] != its[7]
    assert peek(area, PAGES * PAGE) == pattern(1, PAGES * PAGE)
    poke(end, b"!")
    assert exit_code(pid) == 0


run(main)
