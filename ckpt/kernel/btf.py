"""Where the members of the kernel's own structures are: its type information, /sys/kernel/btf/vmlinux.

Documentation/bpf/btf.rst. Only structures and unions are looked at.
"""

from __future__ import annotations

import functools
import struct
from pathlib import Path

import numpy as np

from ckpt.errors import Unsupported

_PATH = Path("/sys/kernel/btf/vmlinux")
_MAGIC = 0xEB9F
_STRUCT, _UNION = 4, 5
# Words behind the three common ones of a type: for each kind a fixed number, and one for each of its vlen members.
_FIXED = {1: 1, 3: 3, 14: 1, 17: 1}
_EACH = {4: 3, 5: 3, 6: 2, 13: 2, 15: 3, 19: 3}
_MODIFIERS = frozenset({8, 9, 10, 11, 18})  # typedef, volatile, const, restrict, type tag


class Btf:
    """The types of this kernel."""

    def __init__(self, raw: bytes) -> None:
        magic, _version, _flags, header = struct.unpack_from("<HBBI", raw)
        if magic != _MAGIC:
            raise Unsupported("the kernel's type information is of an unknown format")
        type_off, type_len, str_off, str_len = struct.unpack_from("<4I", raw, 8)
        self._array = np.frombuffer(raw, "<u4", type_len // 4, header + type_off)
        self._words = memoryview(raw)[header + type_off : header + type_off + type_len].cast("I")
        self._strings = raw[header + str_off : header + str_off + str_len]
        self._structs: dict[str, int] = {}
        self._offsets: dict[tuple[str, ...], int] = {}
        self._starts = [0, 0]  # by type id, as far as was asked for; id 0 is void

    def _start(self, number: int) -> int:
        """Index of a type's first word. All would take ten times as long as the rest; those asked for come early."""
        starts, words = self._starts, self._words
        while len(starts) <= number:
            at = starts[-1]
            info = words[at + 1]
            kind = info >> 24 & 31
            starts.append(at + 3 + _FIXED.get(kind, 0) + _EACH.get(kind, 0) * (info & 0xFFFF))
        return starts[number]

    def size(self, name: str) -> int:
        """sizeof(struct name)."""
        return self._words[self._find(name) + 2]

    def offset(self, name: str, *members: str) -> int:
        """offsetof(struct name, member.member…), in bytes; members of nameless parts are found too."""
        if (name, *members) not in self._offsets:
            self._offsets[name, *members] = self._look_for(name, *members)
        return self._offsets[name, *members]

    def _look_for(self, name: str, *members: str) -> int:
        start, total = self._find(name), 0
        number = 0
        for member in members:
            if number:
                start = self._resolve(number)
            found = self._member(start, member)
            if found is None:
                raise Unsupported(f"this kernel's struct {name} has no {member}")
            total, number = total + found[0], found[1]
        return total

    def _find(self, name: str) -> int:
        if name not in self._structs:
            wanted = self._strings.find(b"\0" + name.encode() + b"\0") + 1
            words = self._words
            for start in np.flatnonzero(self._array == wanted).tolist():
                # Members begin with their name, too, but no type id behind it is so large.
                if words[start + 1 : start + 2] and words[start + 1] >> 24 & 31 == _STRUCT:
                    self._structs[name] = start
                    break
            else:
                raise Unsupported(f"this kernel has no struct {name}")
        return self._structs[name]

    def _member(self, start: int, name: str) -> tuple[int, int] | None:
        """(offset, type id) of a member."""
        words = self._words
        info = words[start + 1]
        if info >> 24 & 31 not in (_STRUCT, _UNION):
            return None
        bits = 0xFFFFFF if info >> 31 else 0xFFFFFFFF  # above are the sizes of bit fields
        nameless = []
        for at in range(start + 3, start + 3 + 3 * (info & 0xFFFF), 3):
            offset = (words[at + 2] & bits) // 8
            if not words[at]:
                nameless.append((offset, words[at + 1]))
            elif self._name(words[at]) == name:
                return offset, words[at + 1]
        for offset, number in nameless:
            if (inner := self._member(self._resolve(number), name)) is not None:
                return offset + inner[0], inner[1]
        return None

    def _resolve(self, number: int) -> int:
        start = self._start(number)
        while self._words[start + 1] >> 24 & 31 in _MODIFIERS:
            start = self._start(self._words[start + 2])
        return start

    def _name(self, offset: int) -> str:
        return self._strings[offset : self._strings.index(b"\0", offset)].decode()


@functools.cache
def kernel_types() -> Btf:
    """The types of the running kernel, read once. Unsupported when it does not tell them."""
    try:
        return Btf(_PATH.read_bytes())
    except OSError as error:
        raise Unsupported(f"the kernel does not tell its types ({_PATH}: {error.strerror})") from None
