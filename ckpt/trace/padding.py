"""Room for a few bytes of code in a task that has none to borrow: what its program leaves of the last page of its text.

An executable segment is mapped in whole pages. Behind its last byte stands whatever follows in the file, at an address
that is nobody's: the program has no name for it, and a private mapping keeps to itself what is written there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from ckpt.errors import KernelError
from ckpt.kernel import procfs, uapi
from ckpt.kernel.memory import Memory

CODE = bytes.fromhex(
    "48c7c00f000000 0f05 c3 97c3 58c3"
)  # mov $15,%rax; syscall; ret; xchg %eax,%edi; ret; pop %rax; ret
RESTORER, SYSCALL_RET, RESULT_TO_ARGUMENT, POP_RAX = 0, 7, 10, 12  # where each begins

_HEADER = struct.Struct("<4sBB10xHHIQQQIHHH6x")  # Elf64_Ehdr
_SEGMENT = struct.Struct("<IIQQQQQQ")  # Elf64_Phdr
_CLASS_64, _LITTLE = 2, 1
_PT_LOAD, _PF_X = 1, 1
_MOST, _FARTHEST = 64, 1 << 20  # program headers, and where they may begin


def room(memory: Memory, maps: Sequence[procfs.MapsLine]) -> int:
    """An address at which CODE has room; 0 where there is none."""
    for line in maps:
        if not (line.ino and "x" in line.perms and not line.shared):
            continue
        head = next((m for m in maps if (m.dev, m.ino, m.offset) == (line.dev, line.ino, 0)), None)
        for start, end in _executable(memory, head.start) if head is not None else ():
            if line.offset <= start and end <= line.offset + (line.end - line.start):
                last = line.start + end - line.offset
                if -last % uapi.PAGE_SIZE >= len(CODE):
                    return last
    return 0


def _executable(memory: Memory, head: int) -> Iterator[tuple[int, int]]:
    """The parts of the file that are executable segments: (offset of the first byte, and behind the last)."""
    try:
        magic, width, order, _, _, _, _, offset, _, _, _, size, count = _HEADER.unpack(memory.read(head, _HEADER.size))
        if (magic, width, order, size) != (b"\x7fELF", _CLASS_64, _LITTLE, _SEGMENT.size) or offset > _FARTHEST:
            return  # no program, or a strange one
        table = memory.read(head + offset, min(count, _MOST) * size)
    except KernelError:
        return  # the headers are not mapped
    for kind, flags, start, _, _, in_file, in_memory, _ in _SEGMENT.iter_unpack(table):
        if kind == _PT_LOAD and flags & _PF_X and in_file == in_memory:
            yield start, start + in_file
