"""A whole tree that stands still, to be held against what a restore makes of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from tests.support.oracle import truth
from tests.support.oracle.orders import CONTROL
from tests.support.oracle.truth import PAGE

Order = Callable[..., int]  # Orders.call


@dataclass
class Whole:
    """What a restore must bring back."""

    memory: dict[int, truth.Memory]
    shared: dict[int, dict[int, bytes]]
    sharing: dict[tuple[int, int], tuple[str, int]]


def look(pids: list[int]) -> Whole:
    """Everything of the tree."""
    return Whole({pid: truth.look(pid) for pid in pids}, {pid: _shared(pid) for pid in pids}, _sharing(pids))


def unlike(was: Whole, now: Whole) -> str:
    """Where it is another, in words; empty when it is not."""
    for pid, before in was.memory.items():
        after = now.memory[pid]
        if truth.joined(before.lines) != truth.joined(after.lines):
            gone = sorted(set(truth.joined(before.lines)) - set(truth.joined(after.lines)))
            new = sorted(set(truth.joined(after.lines)) - set(truth.joined(before.lines)))
            return f"the mappings of {pid} differ: were {gone[:5]}\nare {new[:5]}"
        wrong = [
            f"{page * PAGE:#x}"
            for page in sorted(before.pages.keys() | after.pages.keys())
            if page * PAGE != CONTROL and before.pages.get(page, bytes(PAGE)) != after.pages.get(page, bytes(PAGE))
        ]
        if wrong or before.guards != after.guards:
            return f"pages of {pid} differ: {wrong[:12]}, guards {before.guards ^ after.guards}"
        one, other = was.shared[pid], now.shared[pid]
        wrong = [f"{page * PAGE:#x}" for page in sorted(one.keys() | other.keys()) if one.get(page) != other.get(page)]
        if wrong:
            return f"shared pages of {pid} differ: {wrong[:12]}"
    return _unlike_sharing(was.sharing, now.sharing)


def locked_to_come(pid: int, call: Order) -> set[str]:
    """How a mapping would be locked that the process makes from now on. Changes its stack."""
    at = call(pid, "mmap", 0, PAGE, 0, 0x22, -1, 0)
    found = {flag for line in truth.mappings(pid) if line.start <= at < line.end for flag in line.flags & {"lo", "lf"}}
    call(pid, "munmap", at, PAGE)
    return found


def _shared(pid: int) -> dict[int, bytes]:
    """Every page of the shared mappings that can be read, whoever has brought it in."""
    pages = {}
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
        for line in truth.mappings(pid):
            for page in range(line.start // PAGE, line.end // PAGE) if line.shared else ():
                try:
                    pages[page] = os.pread(mem.fileno(), PAGE, page * PAGE)
                except OSError:
                    continue  # behind the end, or a guard page
    return pages


def _sharing(pids: list[int]) -> dict[tuple[int, int], tuple[str, int]]:
    """(process, page, or the negative of a descriptor and 1) -> the file or object behind it, and the page of that."""
    found = {}
    for pid in pids:
        for line in truth.mappings(pid):
            if line.ino and not (line.special or line.anonymous):
                for n in range((line.end - line.start) // PAGE):
                    found[pid, line.start // PAGE + n] = f"{line.dev}:{line.ino}", line.offset // PAGE + n
        for fd in map(int, os.listdir(f"/proc/{pid}/fd")):
            st = os.stat(f"/proc/{pid}/fd/{fd}")
            found[pid, -fd - 1] = f"{os.major(st.st_dev):02x}:{os.minor(st.st_dev):02x}:{st.st_ino}", 0
    return found


def _unlike_sharing(was: dict[tuple[int, int], tuple[str, int]], now: dict[tuple[int, int], tuple[str, int]]) -> str:
    """Where two of `_sharing` are not one and the same but for the numbers of the files; empty when they are."""
    if was.keys() != now.keys():
        return f"places {sorted(was.keys() ^ now.keys())[:6]}"
    there: dict[str, str] = {}
    back: dict[str, str] = {}
    for place, (file, page) in was.items():
        other, other_page = now[place]
        if page != other_page or there.setdefault(file, other) != other or back.setdefault(other, file) != file:
            return f"{place}: was page {page} of {file}, is page {other_page} of {other} ({there[file]})"
    return ""
