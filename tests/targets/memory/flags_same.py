"""Every mapping of the program has the flags, rights, offset and name that it had (smaps)."""

import os
from pathlib import Path

from target_api import DIR, PAGE, call, checkpoint, mmap, poke, run

MARKS = {"sd", "uw", "um"}  # of trackers


def view():
    found, head = {}, ""
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, *rest = line.split()
        if "-" in first and not first.endswith(":"):
            head = line
        elif first == "VmFlags:":
            fields = head.split()
            found[fields[0]] = fields[1], fields[2], fields[5:], sorted(set(rest) - MARKS)
    return found


def main():
    (DIR / "data").write_bytes(bytes(8 * PAGE))
    fd = os.open(DIR / "data", os.O_RDWR)
    reading = os.open(DIR / "data", os.O_RDONLY)
    memory = os.memfd_create("memory")
    os.ftruncate(memory, 8 * PAGE)
    for prot in (0, 1, 3, 5, 7):
        for flags, file in (
            (0x22, -1),
            (0x21, -1),
            (0x4022, -1),
            (2, fd),
            (1, fd),
            (2, reading),
            (1, memory),
            (2, memory),
        ):
            area = mmap(8 * PAGE, prot, flags, file, 0 if file < 0 else 2 * PAGE)
            if prot & 2 and flags & 0x20:
                poke(area, b"data")
    call("mprotect", mmap(8 * PAGE, 3, 0x4022), 4 * PAGE, 0)
    mmap(8 * PAGE, 3, 0x20122)  # MAP_STACK | MAP_GROWSDOWN
    view()
    room = mmap(256 * PAGE)
    before = view()
    if checkpoint():
        call("munmap", room, PAGE)
    after = view()
    changed = {place for place in before.keys() | after.keys() if before.get(place) != after.get(place)}
    wrong = {place: (before.get(place), after.get(place)) for place in changed}
    heap = {place for place, (old, new) in wrong.items() if "[heap]" in (old or new)[2]}
    assert not changed - heap, wrong


run(main)
