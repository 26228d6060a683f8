"""A vdso that the task has changed: a restored one would have the kernel's own."""

from pathlib import Path

from target_api import call, checkpoint, peek, poke, run


def main():
    head = next(line for line in Path("/proc/self/maps").read_text().splitlines() if "[vdso]" in line).split()[0]
    start, end = (int(text, 16) for text in head.split("-"))
    call("mprotect", start, end - start, 7)
    poke(start + 9, b"\x55")  # padding in the ELF header
    call("mprotect", start, end - start, 5)
    checkpoint()
    assert peek(start + 9, 1) == b"\x55"


run(main)
