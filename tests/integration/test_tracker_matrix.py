"""Every tracker against the truth, in every case that some tracker is known to miss."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from tracker_oracle import Rounds, Target, running

from ckpt.kernel.memory import Memory
from ckpt.tracker import choice
from ckpt.tracker.state import unpack
from tests.support import huge_pages

pytestmark = [pytest.mark.root, pytest.mark.guest]

PAGE = 4096
ALL = set(range(16))

# name: (lines before the first round, lines between the rounds, pages of A that must then be clean, or None)
CASES: dict[str, tuple[list[str], list[str], set[int] | None]] = {
    "nothing": (["area()"], [], ALL),
    "write": (["area()"], ["put(A + 3 * PAGE, 99)"], ALL - {3}),
    "same bytes": (["area()"], ["put(A + 3 * PAGE, 4)"], None),
    "read(2)": (["area()"], ["read_into(A + 6 * PAGE, PAGE)"], ALL - {6}),
    "fork and write": (["area()"], ["fork_and_write(A + 7 * PAGE, 99)"], None),
    "mprotect cycle": (
        ["area()"],
        ["protect(A, 16, RO)", "protect(A, 16, RW)", "put(A + 8 * PAGE, 99)"],
        ALL - {8},
    ),
    "mprotect of the middle": (["area()"], ["put(A + 4 * PAGE, 99)", "protect(A + 4 * PAGE, 4, RO)"], None),
    "mprotect merges again": (
        ["area()", "protect(A + 4 * PAGE, 4, RO)"],
        ["protect(A + 4 * PAGE, 4, RW)", "put(A + 5 * PAGE, 99)"],
        None,
    ),
    "data behind PROT_NONE": (["area()"], ["put(A + 2 * PAGE, 99)", "protect(A, 16, NONE)"], None),
    "MADV_DONTNEED": (["area()"], ["advise(A + 4 * PAGE, 2, DONTNEED)"], ALL - {4, 5}),
    "MADV_DONTNEED, then read": (["area()"], ["advise(A, 2, DONTNEED)", "get(A)", "get(A + PAGE)"], None),
    "MADV_DONTNEED, then write": (
        ["area()"],
        ["advise(A + 4 * PAGE, 2, DONTNEED)", "put(A + 4 * PAGE, 99)"],
        ALL - {4, 5},
    ),
    "MADV_FREE": (["area()"], ["advise(A, 4, FREE)"], None),
    "MADV_FREE, then write": (["area()"], ["advise(A, 4, FREE)", "put(A, 99)"], None),
    "new mapping in the old place": (
        ["area()"],
        ["munmap(A, 16)", "mmap(A, 16, RW, PRIVATE | ANON | FIXED)"],
        set(),
    ),
    "new mapping in the old place, written": (["area()"], ["munmap(A, 16)", "area(A, 16, 4)"], set()),
    "new mapping over a part": (["area()"], ["area(A + 4 * PAGE, 4, 2)"], None),
    "mapping read before the first round": (["area(filled=0)", "get(A)"], ["put(A, 99)"], set()),
    "new neighbour": (["area()"], ["area(A + 16 * PAGE, 16, 3)"], None),
    "neighbour goes": (["area(A, 32, 32)"], ["munmap(A + 16 * PAGE, 16)"], None),
    "moved away": (["area()"], ["move(A, 16, B)", "area(A, 16, 2)"], set()),
    "moved there and back": (["area()"], ["move(A, 16, B)", "put(B, 99)", "move(B, 16, A)"], set()),
    "two areas change places": (
        ["area(A, 1024, 700)", "area(B, 1024, 700)", "put(B, 77, 700)"],
        ["move(A, 1024, C)", "move(B, 1024, A)", "move(C, 1024, B)"],
        set(),
    ),
    "moved within one mapping": (
        ["area(A, 2048, 2048)"],
        ["move(A, 512, A + 1024 * PAGE)", "area(A, 512, 9)"],
        None,
    ),
    "grown by mremap": (
        ["area()"],
        ["call('mremap', A, 16 * PAGE, 64 * PAGE, 0)", "put(A + 20 * PAGE, 1)"],
        None,
    ),
    "guard pages": (["area()"], ["advise(A + 2 * PAGE, 2, GUARD_INSTALL, True)"], None),
    "guard pages, removed": (
        ["area()", "advise(A + 2 * PAGE, 2, GUARD_INSTALL, True)"],
        ["advise(A + 2 * PAGE, 2, GUARD_REMOVE, True)", "put(A + 2 * PAGE, 99)"],
        None,
    ),
    "one byte in a huge page": (
        ["mmap(A, 1024, RW, PRIVATE | ANON | FIXED)", "advise(A, 1024, HUGEPAGE, True)", "put(A, 1, 1024)"],
        ["put(A + 700 * PAGE, 99)"],
        None,
    ),
    "huge zero page": (
        ["mmap(A, 512, RW, PRIVATE | ANON | FIXED)", "advise(A, 512, HUGEPAGE, True)", "get(A)"],
        ["put(A + 30 * PAGE, 99)"],
        None,
    ),
    "part of a huge page dropped": (
        ["mmap(A, 512, RW, PRIVATE | ANON | FIXED)", "advise(A, 512, HUGEPAGE, True)", "put(A, 1, 512)"],
        ["advise(A + 100 * PAGE, 50, DONTNEED)", "get(A + 101 * PAGE)"],
        None,
    ),
    "collapse": (["area(A, 512, 512)", "put(A, 5)"], ["advise(A, 512, COLLAPSE, True)", "put(A, 6)"], None),
    "page out": (["area()"], ["put(A, 99)", "advise(A, 16, PAGEOUT, True)"], None),
    "heap grows": (["area()", "call('sbrk', 64 * PAGE)"], ["put(call('sbrk', 16 * PAGE), 9, 10)"], ALL),
    "private file": (
        [
            "f = file(16)",
            "mmap(A, 16, RW, PRIVATE | FIXED, f)",
            "put(A, 1, 4)",
        ],
        ["put(A + PAGE, 2)", "put(A + 9 * PAGE, 3)", "get(A + 12 * PAGE)"],
        None,
    ),
    "private file, reverted": (
        ["f = file(16)", "mmap(A, 16, RW, PRIVATE | FIXED, f)", "put(A, 1, 4)"],
        ["advise(A, 2, DONTNEED)", "get(A)"],
        None,
    ),
    "guard in a private file": (
        ["f = file(16)", "mmap(A, 16, RW, PRIVATE | FIXED, f)", "put(A, 1, 4)"],
        ["advise(A, 2, GUARD_INSTALL, True)"],
        None,
    ),
}


@pytest.fixture(params=[name for name in choice.NEEDS if name != "content-hash"])
def tracker(request: pytest.FixtureRequest) -> str:
    if lacks := choice.missing(request.param):
        pytest.skip(f"{request.param}: {lacks[0].evidence}")
    return str(request.param)


@pytest.fixture
def target() -> Iterator[Target]:
    with running() as made:
        yield made


def _all(target: Target, lines: list[str]) -> None:
    for line in lines:
        assert target.do(line) == "ok", line


@pytest.mark.parametrize("name", CASES)
def test_case(name: str, tracker: str, target: Target) -> None:
    """Once right after arming, and once more: what a round re-armed must be seen by the next."""
    before, between, clean = CASES[name]
    _all(target, before)
    rounds = Rounds(target, tracker)
    rounds.round()
    rounds.round()
    assert rounds.reason is None
    _all(target, between)
    rounds.round()
    assert rounds.reason is None
    if clean is not None:
        assert rounds.clean_in(target.a, 16) == clean
    rounds.round()
    # Nothing happened since: what is new has been armed as well, but for private files with write-protect.
    # khugepaged moves huge pages about when it likes.
    if (tracker == "soft-dirty" or "file" not in name) and "huge" not in name:
        first = target.a // PAGE
        filled = {p for p in range(16) if any(rounds.image.get(first + p, b"")) and not rounds.is_guard(first + p)}
        canaries = {page - first for page in unpack(tracker, rounds.state)[0]["canaries"]}
        assert rounds.clean_in(target.a, 16) >= filled - canaries  # those ckpt dirties itself
    _all(target, ["mmap(A, 1, RW, PRIVATE | ANON | FIXED)", "put(A, 123)"])
    rounds.round()
    assert rounds.reason is None


def test_written_from_outside(tracker: str, target: Target) -> None:
    _all(target, ["area()"])
    rounds = Rounds(target, tracker)
    rounds.round()
    with Memory(target.pid, write=True) as memory:
        memory.write(target.a + 5 * PAGE, b"from outside")
    rounds.round()
    assert rounds.clean_in(target.a, 16) == ALL - {5}


def test_a_neighbour_moves_in(tracker: str, target: Target) -> None:
    """Linux merges it with what is there, and write-protection of the whole is lost, but for the bits in the tables."""
    room = "mmap(B, 16, RW, PRIVATE | ANON | FIXED)"
    _all(target, ["area()", room, "advise(B, 16, NOHUGEPAGE)"])
    rounds = Rounds(target, tracker)
    rounds.round()
    rounds.round()
    _all(target, ["move(B, 16, A + 16 * PAGE)", "put(A + 2 * PAGE, 99)"])
    rounds.round()
    _all(target, ["put(A + 2 * PAGE, 100)"])
    rounds.round()
    assert 2 not in rounds.clean_in(target.a, 16)


def test_pages_of_hugetlbfs(tracker: str, target: Target) -> None:
    """Soft-dirty has no bit for them: a write to one went unseen (found by the oracle, seed 2802)."""
    with ExitStack() as stack:
        try:
            stack.enter_context(huge_pages.raised(2))
        except OSError as error:
            pytest.skip(f"no huge pages: {error}; run as root where /sys can be written")
        mapped = target.do("mmap(A, 512, RW, PRIVATE | ANON | FIXED | 0x40000)")  # MAP_HUGETLB
        assert mapped == "ok"
        _all(target, ["put(A + 3 * PAGE, 1)"])
        rounds = Rounds(target, tracker)
        rounds.round()
        rounds.round()
        for page in (2, 3, 0):
            _all(target, [f"put(A + {page} * PAGE, 99)"])
            rounds.round()
        target.end()


def test_many_rounds(tracker: str, target: Target) -> None:
    """Only the page of each round is dirty in it, whatever was dirty before."""
    _all(target, ["area()"])
    rounds = Rounds(target, tracker)
    rounds.round()
    for page in (3, 3, 9, 0, 15):
        _all(target, [f"put(A + {page} * PAGE, {100 + page})"])
        rounds.round()
        assert rounds.clean_in(target.a, 16) == ALL - {page}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_steps(seed: int, tracker: str, target: Target) -> None:
    """Random steps on areas that are merged, split, moved and mapped over: the image is always right."""
    _all(target, ["area(A, 1024, 1024)", "area(B, 1024, 600)", "area(C, 512, 512)"])
    rounds = Rounds(target, tracker)
    vouched = 0
    for number in range(8):
        rounds.round()
        vouched += len(rounds.clean)
        _all(target, [f"ops({3 if number % 2 else 25}, {seed * 1000 + number})"])
    rounds.round()
    assert vouched > 0


def test_target_keeps_its_descriptors(tracker: str, target: Target) -> None:
    before = os.listdir(f"/proc/{target.pid}/fd")
    rounds = Rounds(target, tracker)
    for _ in range(3):
        rounds.round()
    assert os.listdir(f"/proc/{target.pid}/fd") == before


def test_trackers_alternate(tracker: str, target: Target) -> None:
    """What another tracker left is no state; what it cleared in between is not trusted."""
    _all(target, ["area()"])
    rounds = Rounds(target, tracker)
    rounds.round()
    _all(target, ["put(A, 50)"])
    rounds.round("content-hash")
    _all(target, ["put(A + PAGE, 51)"])
    rounds.round()
    assert rounds.reason is not None and "content-hash" in rounds.reason
    _all(target, ["put(A + 2 * PAGE, 52)"])
    rounds.round()
    assert rounds.clean_in(target.a, 16) == ALL - {2}
