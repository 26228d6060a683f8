"""The truth about a tree that stands still, read without any of ckpt's code, and an image held against it."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ckpt.records.runs import DATA, GUARD, ZERO
from ckpt.records.seams import ImageView

PAGE = 4096
_ZEROS = bytes(PAGE)
_PRESENT, _SWAPPED, _FILE, _GUARD = 1 << 63, 1 << 62, 1 << 61, 1 << 58
_SHM = ("/dev/zero (deleted)", "/memfd:", "/SYSV")
# Flags of a vma that come and go by themselves, or that a tracker sets.
_LOOSE = {"gu", "sd", "um", "uw", "nr", "mr", "mw", "me", "ms", "ac"}


@dataclass(frozen=True)
class Mapping:
    """One mapping as smaps shows it."""

    start: int
    end: int
    perms: str
    offset: int
    dev: str
    ino: int
    path: str
    flags: frozenset[str]

    @property
    def shared(self) -> bool:
        return self.perms[3] == "s"

    @property
    def anonymous(self) -> bool:
        return not self.shared and (not self.ino or self.path.startswith(("/anon_hugepage", "/dev/zero")))

    @property
    def special(self) -> bool:
        return self.path.startswith(("[vdso", "[vvar", "[vsyscall", "[uprobes"))

    @property
    def object_key(self) -> str | None:
        """The image's name for the shared memory behind it."""
        if not self.shared or not self.path.startswith(_SHM):
            return None
        if self.path.startswith("/SYSV"):
            return f"sysv:{self.ino}"
        major, minor = (int(part, 16) for part in self.dev.split(":"))
        return f"shm:{os.makedev(major, minor)}:{self.ino}"

    @property
    def looks(self) -> tuple[object, ...]:
        """What must be the same after a restore, and in two mappings that count as one."""
        path = "" if self.anonymous and not self.path.startswith("[") else self.path
        if path.endswith(" (deleted)") and not path.startswith(_SHM):
            path = "(deleted)"  # under a name of ckpt's own
        # A sealed memfd mapped to be read has "sh" or not, by how it was opened; it is the same to the task.
        loose = _LOOSE if "mw" in self.flags else _LOOSE | {"sh"}
        return self.perms, path, self.flags - loose


def mappings(pid: int) -> list[Mapping]:
    found: list[Mapping] = []
    head: list[str] = []
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        parts = line.split(maxsplit=5)
        if "-" in parts[0] and not parts[0].endswith(":"):
            head = parts
        elif parts[0] == "VmFlags:":
            start, end = (int(text, 16) for text in head[0].split("-"))
            path = head[5] if len(head) > 5 else ""
            flags = frozenset(line.split()[1:])
            found.append(Mapping(start, end, head[1], int(head[2], 16), head[3], int(head[4]), path, flags))
    return found


def joined(lines: list[Mapping]) -> list[tuple[int, int, tuple[object, ...]]]:
    """Neighbours that look alike as one: how the kernel cuts them is its own business."""
    found: list[tuple[int, int, tuple[object, ...]]] = []
    for line in lines:
        if line.special:
            continue
        if found and found[-1][1] == line.start and found[-1][2] == line.looks:
            found[-1] = (found[-1][0], line.end, line.looks)
        else:
            found.append((line.start, line.end, line.looks))
    return found


@dataclass
class Memory:
    """One process: page number -> its bytes; `guards`; the file pages, which no image needs."""

    pid: int
    lines: list[Mapping]
    pages: dict[int, bytes] = field(default_factory=dict)
    guards: set[int] = field(default_factory=set)
    of_files: set[int] = field(default_factory=set)


def look(pid: int) -> Memory:
    """Every populated page of the private mappings of a process that stands still."""
    memory = Memory(pid, mappings(pid))
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap, open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
        for line in memory.lines:
            if line.special:
                continue
            count = (line.end - line.start) // PAGE
            entries = np.frombuffer(os.pread(pagemap.fileno(), 8 * count, line.start // PAGE * 8), "<u8")
            for index in np.flatnonzero(entries & np.uint64(_PRESENT | _SWAPPED)).tolist():
                page, entry = line.start // PAGE + index, int(entries[index])
                if entry & _GUARD:
                    memory.guards.add(page)
                    continue
                if line.shared:
                    continue
                if not line.anonymous and entry & _FILE:
                    memory.of_files.add(page)
                    continue
                try:
                    memory.pages[page] = os.pread(mem.fileno(), PAGE, page * PAGE)
                except OSError:
                    memory.guards.add(page)  # before 6.15 pagemap does not tell
    return memory


def look_at_object(pid: int, line: Mapping) -> bytes:
    """All its bytes; those behind its end, in the last page, too, which only who maps it sees."""
    with open(f"/proc/{pid}/map_files/{line.start:x}-{line.end:x}", "rb") as file:
        data = file.read()
        whole = len(data) - len(data) % PAGE
        return data if whole == len(data) else data[:whole] + _last_page(file.fileno(), whole)


def _last_page(fd: int, offset: int) -> bytes:
    libc = ctypes.CDLL(None, use_errno=True)  # Python's mmap takes nothing behind the end
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    address = libc.mmap(None, PAGE, mmap.PROT_READ, mmap.MAP_SHARED, fd, offset)
    assert address != ctypes.c_void_p(-1).value, os.strerror(ctypes.get_errno())
    try:
        return ctypes.string_at(address, PAGE)
    finally:
        libc.munmap(address, PAGE)


def _image_pages(view: ImageView, key: str) -> tuple[dict[int, bytes], set[int]]:
    runs = view.runs(key)
    pages = {int(page): _ZEROS for page in runs.of(ZERO).pages()}
    for numbers, data in view.read(key):
        raw = bytes(data)
        pages.update((int(page), raw[i * PAGE : (i + 1) * PAGE]) for i, page in enumerate(numbers))
    assert len(pages) == runs.count(ZERO) + runs.count(DATA), f"{key}: the map and the pages of an image differ"
    return pages, {int(page) for page in runs.of(GUARD).pages()}


def differences(view: ImageView, pids: list[int], *, shared: bool = True) -> list[str]:
    """Where an image is not what the tree's memory is, in words; empty when all is right. `shared`: with objects."""
    found: list[str] = []
    objects: dict[str, bytes] = {}
    for pid in pids:
        memory = look(pid)
        pages, guards = _image_pages(view, f"mm:{pid}")
        anonymous = [(line.start // PAGE, line.end // PAGE) for line in memory.lines if line.anonymous]
        found += [f"{pid}: {page * PAGE:#x} {what}" for page, what in _compare(memory, pages, guards, anonymous)]
        for line in memory.lines:
            if shared and line.object_key is not None:
                objects[line.object_key] = look_at_object(pid, line)
    for key, data in objects.items():
        pages, _ = _image_pages(view, key)
        data += bytes(-len(data) % PAGE)
        for page in range(max([len(data) // PAGE, *(page + 1 for page in pages)])):
            true = data[page * PAGE : (page + 1) * PAGE]
            if pages.get(page, _ZEROS) != (true or _ZEROS):
                found.append(f"{key}: page {page} {_unlike(true or _ZEROS, pages.get(page))}")
    return found


def _compare(
    memory: Memory, pages: dict[int, bytes], guards: set[int], anonymous: list[tuple[int, int]]
) -> list[tuple[int, str]]:
    def is_anonymous(page: int) -> bool:
        return any(start <= page < end for start, end in anonymous)

    found = []
    for page, true in memory.pages.items():
        known = pages.get(page)
        if known is None and page not in guards and true == _ZEROS and is_anonymous(page):
            continue  # absent reads as zeros there
        if known != true:
            found.append((page, _unlike(true, known)))
    for page, known in pages.items():
        if page in memory.pages:
            continue
        if page in memory.of_files or not (known == _ZEROS and is_anonymous(page)):
            found.append((page, "is in the image, and not in memory"))
    for page in guards ^ memory.guards:
        found.append((page, "is a guard page in " + ("the image alone" if page in guards else "memory alone")))
    return sorted(found)


def _unlike(true: bytes, known: bytes | None) -> str:
    if known is None:
        return "is missing in the image"
    first = next(i for i in range(PAGE) if true[i] != known[i])
    nr = sum(a != b for a, b in zip(true, known, strict=True))
    at = max(0, min(first, PAGE - 8))
    there, here = known[at : at + 8].hex(), true[at : at + 8].hex()
    return f"differs in {nr} bytes from byte {first} on: {here}, in the image {there}"


def write_from_outside(pid: int, address: int, data: bytes, *, through_mem: bool) -> bool:
    """Whether it could be written."""
    try:
        if through_mem:
            with open(f"/proc/{pid}/mem", "r+b", buffering=0) as mem:
                return os.pwrite(mem.fileno(), data, address) == len(data)
        return _writev(pid, address, data)
    except OSError:
        return False


def _writev(pid: int, address: int, data: bytes) -> bool:
    class Iovec(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]

    buffer = ctypes.create_string_buffer(data, len(data))
    here, there = Iovec(ctypes.addressof(buffer), len(data)), Iovec(address, len(data))
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.process_vm_writev(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0) == len(data))


def read_words(pid: int, address: int, count: int) -> tuple[int, ...]:
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
        data = os.pread(mem.fileno(), 8 * count, address)
    if len(data) != 8 * count:
        raise OSError(f"process {pid} has no memory at the moment")  # it executes a program
    return struct.unpack(f"<{count}q", data)
