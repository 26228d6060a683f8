"""Page maps of a process of our own, uapi sizes, span arithmetic and the trackers' state."""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import sys
import tempfile

import numpy as np
import pytest

from ckpt.errors import NoSuchTask, Unsupported, UsageError
from ckpt.kernel import entries, features, keeper, pagemap, populated, procfs, tiny, uapi
from ckpt.kernel import uapi_pagemap as up
from ckpt.records.runs import DATA, GUARD, PAGE_SIZE, ZERO, PageRuns
from ckpt.tracker import canary, choice, soft_dirty, spans
from ckpt.tracker.state import numbers, pack, unpack

GUARD_INSTALL, DONTNEED = 102, 4


class Area:
    """Private pages of this process, small pages only."""

    def __init__(self, nr_pages: int, fd: int = -1) -> None:
        flags = mmap.MAP_PRIVATE | (mmap.MAP_ANONYMOUS if fd == -1 else 0)
        self.map = mmap.mmap(fd, nr_pages * PAGE_SIZE, flags=flags)
        if fd == -1:
            try:
                self.map.madvise(mmap.MADV_NOHUGEPAGE)
            except OSError:
                pass  # a kernel without huge pages
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        self.ranges = np.array([[self.address, self.address + nr_pages * PAGE_SIZE]], np.uint64)

    def kinds(self, runs: PageRuns) -> dict[int, int]:
        pages = runs.pages().tolist()
        kinds = np.repeat(runs.kind, runs.nr_pages.astype(np.int64)).tolist()
        return {page - self.address // PAGE_SIZE: kind for page, kind in zip(pages, kinds, strict=True)}


def by_entries(area: Area) -> PageRuns:
    with pagemap.Pagemap(os.getpid()) as own:
        return populated.of_entries(*entries.populated_entries(own, area.ranges))


def by_scan(area: Area) -> PageRuns:
    if not pagemap.has_pagemap_scan():
        pytest.skip("no PAGEMAP_SCAN")
    with pagemap.Pagemap(os.getpid()) as own:
        return populated._of_scan(populated._scan(own, area.ranges))


def by_inverted_scan(area: Area) -> PageRuns:
    if not pagemap.has_pagemap_scan():
        pytest.skip("no PAGEMAP_SCAN")
    return populated.take(os.getpid(), area.ranges, np.array([True]))


ANONYMOUS = pytest.mark.parametrize("way", [by_entries, by_scan, by_inverted_scan])
WAYS = pytest.mark.parametrize("way", [by_entries, by_scan])


def test_uapi() -> None:
    assert ctypes.sizeof(up.pm_scan_arg) == 96

    def iowr(kind: int, number: int, argument: type[ctypes.Structure]) -> int:
        return 3 << 30 | ctypes.sizeof(argument) << 16 | kind << 8 | number

    assert iowr(ord("f"), 16, up.pm_scan_arg) == up.PAGEMAP_SCAN
    assert iowr(0xAA, 0x3F, up.uffdio_api) == up.UFFDIO_API
    assert iowr(0xAA, 0x00, up.uffdio_register) == up.UFFDIO_REGISTER
    assert iowr(0xAA, 0x06, up.uffdio_writeprotect) == up.UFFDIO_WRITEPROTECT
    assert pagemap.REGION.itemsize == 24


@ANONYMOUS
def test_anonymous(way: object) -> None:
    area = Area(64)
    for page in (0, 1, 2, 40):
        area.map[page * PAGE_SIZE] = 7
    assert area.map[50 * PAGE_SIZE] == 0
    area.map.madvise(DONTNEED, PAGE_SIZE, PAGE_SIZE)
    zero = ZERO if way is not by_entries or pagemap.zero_page_frame() else DATA
    assert area.kinds(way(area)) == {0: DATA, 2: DATA, 40: DATA, 50: zero}  # type: ignore[operator]


@ANONYMOUS
def test_guard(way: object) -> None:
    if not features.probe("madv-guard").available or not features.probe("pagemap-scan-guard").available:
        pytest.skip("no guard pages in page maps")
    area = Area(16)
    area.map[3 * PAGE_SIZE] = 7
    area.map.madvise(GUARD_INSTALL, 4 * PAGE_SIZE, 2 * PAGE_SIZE)
    assert area.kinds(way(area)) == {3: DATA, 4: GUARD, 5: GUARD}  # type: ignore[operator]


@WAYS
def test_private_file(way: object) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"x" * 16 * PAGE_SIZE)
        file.flush()
        area = Area(16, file.fileno())
    for page in range(8):
        assert area.map[page * PAGE_SIZE] == ord("x")
    area.map[5 * PAGE_SIZE] = 1
    area.map[12 * PAGE_SIZE] = 1
    assert area.kinds(way(area)) == {5: DATA, 12: DATA}  # type: ignore[operator]


def test_sparse_and_many_regions() -> None:
    """More regions than one vector holds, in a mapping with holes much larger than what is there."""
    nr_pages = 200_000
    area = Area(nr_pages)
    wanted = set(range(0, 70_000, 2)) | {150_000, 199_999}
    for page in wanted:
        area.map[page * PAGE_SIZE] = 1
    assert set(area.kinds(populated.take(os.getpid(), area.ranges))) == wanted
    assert set(area.kinds(by_entries(area))) == wanted
    if pagemap.has_pagemap_scan():
        assert set(area.kinds(by_inverted_scan(area))) == wanted


def test_both_kinds_of_rows_together() -> None:
    """Every row of our own map, some read one way and some the other."""
    area = Area(1024)
    for page in range(100, 900, 3):
        area.map[page * PAGE_SIZE] = 1
    rows = [m for m in procfs.maps(os.getpid()) if not m.shared and not m.path.startswith("[v")]
    ranges = np.array([[m.start, m.end] for m in rows], np.uint64)
    anonymous = np.array([m.ino == 0 for m in rows])
    runs = populated.take(os.getpid(), ranges, anonymous)
    assert (runs.start[1:] >= runs.start[:-1] + runs.nr_pages[:-1]).all()
    first, last = (int(x) // PAGE_SIZE for x in area.ranges[0])
    assert {p - first for p in runs.pages().tolist() if first <= p < last} == set(range(100, 900, 3))


def test_each_region_once() -> None:
    """PAGEMAP_SCAN tells a walk_end before regions that it has reported, when there are many."""
    if not pagemap.has_pagemap_scan():
        pytest.skip("no PAGEMAP_SCAN")
    for nr_pages in (1500, 3 * 1024 + 6, 1 << 15):
        area = Area(nr_pages)
        for page in range(0, nr_pages, 2):
            area.map[page * PAGE_SIZE] = 1
        with pagemap.Pagemap(os.getpid()) as own:
            found = own.scan(area.ranges, anyof=pagemap.THERE)
        first = area.address // PAGE_SIZE
        assert (found["start"] // PAGE_SIZE - first).tolist() == list(range(0, nr_pages, 2))


@pytest.mark.parametrize("planned", [True, False])
def test_entries_read_by_two(planned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by one, for parts of every size, and again by the same plan; what one of the two fails with is told."""
    if planned:  # as without PAGEMAP_SCAN
        monkeypatch.setattr(entries, "has_pagemap_scan", lambda: False)
        monkeypatch.setattr(pagemap, "has_pagemap_scan", lambda: False)
    nr_pages = 3 * entries._SHARE + 5
    area = Area(nr_pages)
    for page in range(0, nr_pages, 7):
        area.map[page * PAGE_SIZE] = 1
    helper = entries.Helper(int)
    try:
        with pagemap.Pagemap(os.getpid()) as own:
            expected = [found.tolist() for found in entries.populated_entries(own, area.ranges)]
            room = entries.Room(helper)
            first = entries.read_entries(own, area.ranges, room)
            second = entries.read_entries(own, area.ranges, room)  # of another task that looks the same
            room.reuse()
            room.begin(own)
            third = entries.read_entries(own, area.ranges, room)
            room.reuse()
            room.begin(own)
            fourth = entries.read_entries(own, area.ranges.copy(), room)  # the mappings are not what they were
            for blocks in (first, second, third, fourth):
                assert [found.tolist() for found in entries.sifted(blocks, area.ranges)] == expected
            assert not np.shares_memory(first[0][1], second[0][1])
        assert expected[0] == sorted(set(expected[0]))
        with pytest.raises(ZeroDivisionError):
            entries.Reading([lambda: 1 // 0] * 3, helper).blocks()  # type: ignore[list-item, return-value]
    finally:
        helper.end()


def test_a_helper_is_dismissed_before_it_has_begun() -> None:
    """A round that fails right after the freeze, when the other thread has not had the processor yet."""
    interval = sys.getswitchinterval()
    for _ in range(50):
        helper, done = entries.Helper(int), []
        sys.setswitchinterval(10)
        try:
            helper.start(lambda done=done: done.append(1))
            helper.end()
        finally:
            sys.setswitchinterval(interval)
        assert done == [1]


def test_end_of_the_address_space() -> None:
    whole = np.array([[0, uapi.TASK_SIZE_MAX]], np.uint64)
    if pagemap.has_pagemap_scan():
        assert populated.take(os.getpid(), whole).total > 100


def test_no_such_task() -> None:
    with pytest.raises(NoSuchTask):
        populated.take(1 << 22, np.empty((0, 2), np.uint64))


def _set(rows: object) -> set[int]:
    return {x for start, end in np.asarray(rows).tolist() for x in range(start, end)}


def test_spans() -> None:
    rng = random.Random(1)
    for _ in range(300):
        sides = []
        for _side in range(2):
            cuts = sorted(rng.sample(range(60), rng.randrange(0, 14, 2)))
            sides.append(np.array(cuts, np.uint64).reshape(-1, 2))
        a, b = sides
        assert _set(spans.minus(a, b)) == _set(a) - _set(b)
        assert _set(spans.both(a, b)) == _set(a) & _set(b)
        points = np.array(sorted(_set(a)), np.uint64)
        assert _set(spans.of_pages(points)) == _set(a)
        joined = spans.minus(a, spans.EMPTY)
        assert (joined[1:, 0] > joined[:-1, 1]).all()


def test_state() -> None:
    rows = np.array([[1, 2], [3, 4]], np.uint64)
    fields, reason = unpack("soft-dirty", pack("soft-dirty", {"rows": rows, "canaries": [5]}))
    assert reason is None
    assert fields["canaries"] == [5]
    assert (numbers(fields["rows"], 2) == rows).all()
    good = pack("soft-dirty", {"canaries": [5]})
    flipped = [good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :] for at in range(len(good))]
    for state in (None, b"", b"\xc1", good[:-1], good + b"\0", pack("write-protect", {}), *flipped):
        fields, reason = unpack("soft-dirty", state)
        assert fields == {} and reason


def test_moved_page_tables_are_not_trusted() -> None:
    """soft-dirty: frames of clean pages tell whether the page table of 2 MiB is the one of the last round."""
    present = np.uint64(up.PM_PRESENT)
    pages = np.array([0, 1, 600, 601, 1100, 1101, 2048], np.uint64)
    frames = np.array([70, 71, 72, 73, 74, 75, 76], np.uint64) | present
    frames[6] |= np.uint64(up.PM_FILE)  # a clean page of a file says nothing about a page table
    sampled, identity = soft_dirty._samples(pages, frames)
    assert sampled.tolist() == [0, 1, 600, 601, 1100, 1101]
    fields = {"sampled": sampled.tobytes(), "identity": identity.tobytes()}
    assert soft_dirty._trusted(pages, frames, fields).tolist() == [True] * 6 + [False]
    swapped = frames.copy()
    swapped[[0, 1, 2, 3]] = frames[[2, 3, 0, 1]]
    assert soft_dirty._trusted(pages, swapped, fields).tolist() == [False] * 4 + [True] * 2 + [False]
    dirtied = frames | np.uint64(up.PM_SOFT_DIRTY)
    assert soft_dirty._trusted(pages, dirtied, fields).tolist() == [False] * 7
    dirtied[[1, 3]] = frames[[1, 2]]  # a frame may be given out anew, so that only clean ones tell
    assert soft_dirty._trusted(pages, dirtied, fields).tolist() == [True] * 2 + [False] * 5
    gone = pages[1:], frames[1:]
    assert soft_dirty._trusted(*gone, fields).tolist() == [True] * 5 + [False]
    nothing = pages[:0], frames[:0]
    assert soft_dirty._trusted(*nothing, fields).tolist() == []
    assert soft_dirty._samples(*nothing)[0].tolist() == []
    many = np.arange(512, 1500, dtype=np.uint64)
    assert soft_dirty._samples(many, many | present)[0].tolist() == [
        *range(512, 1024, 64), *(1024 + at * 476 // 8 for at in range(8)),
    ]  # fmt: skip


def test_canary_verdict() -> None:
    assert canary.verdict([True, True], [True, True]) is None
    assert canary.verdict([True, False], [True, False]) is None
    assert "cleared" in str(canary.verdict([True, True], [True, False]))
    assert "no canary" in str(canary.verdict([False], [False]))
    assert "no canary" in str(canary.verdict([], []))


def test_features() -> None:
    rows = features.table()
    names = [row.name for row in rows]
    assert len(names) == len(set(names))
    assert {name for needs in choice.NEEDS.values() for name in needs} <= set(names)
    assert all(row.evidence and row.needed_for and row.remedy for row in rows)


def test_choice() -> None:
    name, why = choice.choose()
    assert name in choice.NEEDS and why
    for candidate in choice.NEEDS:
        if choice.missing(candidate):
            with pytest.raises(Unsupported) as caught:
                choice.choose(candidate)
            assert caught.value.hint
        else:
            assert choice.choose(candidate) == (candidate, "asked for")
        assert choice.make(candidate).name == candidate
    with pytest.raises(UsageError):
        choice.choose("guess")


def test_tiny_programs() -> None:
    exit_7 = bytes.fromhex("bf07000000b83c0000000f05")  # mov edi, 7; mov eax, SYS_exit; syscall
    assert tiny.run("ckpt-test", exit_7) == 7
    assert len(tiny.elf(keeper._CODE)) < 400
