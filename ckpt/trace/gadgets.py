"""Code that a task already has and that remote syscalls borrow: `syscall; ret`, and a jump into rt_sigreturn.

Two more, which are bytes in the middle of something else, let a thread close the descriptor that a call has given it.
A program that has none of it, as one without a C library may, is lent the code while a thread needs it (see `padding`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from ckpt.errors import KernelError, NoSuchTask, NothingToBorrow
from ckpt.kernel import procfs
from ckpt.kernel.memory import Memory
from ckpt.trace import padding

# What is looked for: the alternatives of each, the best first.
_PATTERNS: dict[str, tuple[bytes, ...]] = {
    "syscall_ret": (b"\x0f\x05\xc3",),
    "restorer": (
        b"\x48\xc7\xc0\x0f\x00\x00\x00\x0f\x05",  # mov $15,%rax; syscall (glibc, musl, Go)
        b"\xb8\x0f\x00\x00\x00\x0f\x05",  # mov $15,%eax; syscall
    ),
    "result_to_argument": (b"\x97\xc3", b"\x89\xc7\xc3"),  # xchg %eax,%edi; ret, or mov %eax,%edi; ret
    "pop_rax": (b"\x58\xc3",),  # pop %rax; ret
}
_NEEDED = ("syscall_ret", "restorer")
_LONGEST = 16
_CHUNK = 1 << 20
_Found = dict[str, tuple[int, bytes]]  # the offset in its mapping, and what stands there
_cache: dict[tuple[int, int, int, int], _Found] = {}


@dataclass(frozen=True, slots=True)
class Gadgets:
    """Addresses in a task; 0 for the two before the last where its code does not happen to hold them."""

    syscall_ret: int
    restorer: int
    result_to_argument: int = 0
    pop_rax: int = 0
    lent: int = 0  # where padding.CODE is to stand first, if it is to


def find(pid: int, maps: Sequence[procfs.MapsLine] | None = None) -> Gadgets:
    """The addresses in a task. Looked for once a file: the first call is best made before the freeze."""
    maps = maps or procfs.maps(pid)
    lines = [m for m in maps if "x" in m.perms and "r" in m.perms]
    lines = [m for m in lines if not m.path.startswith(("[vvar", "[vsyscall"))]
    lines.sort(key=lambda m: ("libc" not in m.path, not m.path.startswith("/"), m.start))
    known: dict[str, int] = {}
    with Memory(pid) as memory:
        for line in lines:
            if all(name in known for name in _NEEDED):
                break  # libc has the others too, or they are done without
            for name, (offset, _) in _of_mapping(memory, line).items():
                known.setdefault(name, line.start + offset)
        if not all(name in known for name in _NEEDED) and (lent := padding.room(memory, maps)):
            return _lent(lent)
    if not all(name in known for name in _NEEDED):
        raise NothingToBorrow(
            f"task {pid} has no code that a remote syscall could borrow (syscall; ret and rt_sigreturn), nor room "
            "behind its program for any",
            pid=pid,
            hint="such a task can be pre-dumped with --tracker content-hash, but not dumped",
        )
    return Gadgets(**known)


def _lent(address: int) -> Gadgets:
    return Gadgets(
        syscall_ret=address + padding.SYSCALL_RET,
        restorer=address + padding.RESTORER,
        result_to_argument=address + padding.RESULT_TO_ARGUMENT,
        pop_rax=address + padding.POP_RAX,
        lent=address,
    )


def appear(pid: int, patience: float = 1.0) -> bool:
    """Wait until the task, which runs, has what was missing, or has ended; False: not within `patience` seconds."""
    end = time.monotonic() + patience
    while True:
        try:
            find(pid)
            return True
        except NothingToBorrow:
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        except (KernelError, NoSuchTask):
            return True


def _of_mapping(memory: Memory, line: procfs.MapsLine) -> _Found:
    key = (line.dev, line.ino, line.offset, line.end - line.start)
    known = _cache.get(key) if line.ino else None
    if known is None or not _still_there(memory, line, known):
        known, whole = _search(memory, line)
        if line.ino and whole:
            _cache[key] = known
    return known


def _still_there(memory: Memory, line: procfs.MapsLine, known: _Found) -> bool:
    try:
        return all(memory.read(line.start + offset, len(code)) == code for offset, code in known.values())
    except KernelError:
        return False


def _search(memory: Memory, line: procfs.MapsLine) -> tuple[_Found, bool]:
    """What is in a mapping, and whether all of it could be read: not of a task that executes a program meanwhile."""
    found: _Found = {}
    address, overlap = line.start, b""
    while address < line.end and len(found) < len(_PATTERNS):
        size = min(_CHUNK, line.end - address)
        try:
            data = overlap + memory.read(address, size)
        except KernelError:
            return found, False  # a file mapping beyond the end of its file
        base = address - len(overlap) - line.start
        for name, codes in _PATTERNS.items():
            hits = [(at, code) for code in codes if (at := data.find(code)) >= 0] if name not in found else []
            if hits:
                found[name] = (base + hits[0][0], hits[0][1])
        overlap = data[-_LONGEST:]
        address += size
    return found, True
