"""Which pages of a round are compared with the parent's, and what that leaves in the image."""

from __future__ import annotations

import numpy as np
import pytest

from ckpt.chain import parent as parents
from ckpt.chain.layers import View
from ckpt.chain.parent import ParentPages
from ckpt.image.layout import PAGES, XOR_ZSTD
from ckpt.image.reader import ImageReader
from ckpt.image.sinks import MemorySink
from ckpt.image.sources import BytesSource
from ckpt.image.writer import ImageWriter
from ckpt.records.image import Statistics
from ckpt.records.runs import DATA, PARENT, U8, U64, PageRuns
from tests.support.images import image_header

KEY = "mm:41"
NOISE = np.random.default_rng(4).integers(0, 256, (1024, 4096), dtype=np.uint8)


def write(
    memory: U8, number: int = 1, below: View | None = None, dirty: U64 | None = None, thrifty: bool = True
) -> View:
    every = np.arange(len(memory), dtype=np.uint64)
    kinds = np.full(len(every), DATA, np.uint8)
    if dirty is not None:
        kinds[:] = PARENT
        kinds[dirty.astype(np.int64)] = DATA
    wanted = every if dirty is None else dirty
    sink = MemorySink()
    base = None if below is None else ParentPages(below, thrifty=thrifty)
    writer = ImageWriter(sink, image_header(number, below.header.image_id if below else None), base=base)
    space = writer.space(KEY, PageRuns.from_pages(every, kinds))
    for at in range(0, len(wanted), 256):
        part = wanted[at : at + 256]

        def load(out: U8, part: U64 = part) -> None:
            out[:] = memory[part.astype(np.int64)]

        space.pull(part, load)
    space.settle()
    space.close()
    writer.finish(Statistics())
    layers = [ImageReader(BytesSource(bytes(sink.data))), *(below.layers if below else ())]
    return View(layers, trusting=True)


def codecs(view: View) -> set[int]:
    index = view.layers[0].index
    return {index.header(frame).codec for frame in index.of_kind(PAGES)}


def touched(memory: U8, dirty: U64) -> U8:
    memory = memory.copy()
    memory[dirty.astype(np.int64), 77] ^= 1
    return memory


def same(view: View, memory: U8) -> bool:
    checking = View(view.layers)
    found = np.empty_like(memory)

    def take(pages: U64, data: memoryview) -> None:
        found[pages.astype(np.int64)] = np.frombuffer(data, np.uint8).reshape(-1, 4096)

    assert sum(checking.scatter(KEY, take)) == len(memory)
    read = checking.read_pages(KEY, np.arange(len(memory), dtype=np.uint64))
    return bool((found == memory).all()) and read == memory.tobytes()


def test_dense_pages_are_stored_as_differences() -> None:
    full = write(NOISE)
    dirty = np.arange(0, 1024, 4, dtype=np.uint64)
    memory = touched(NOISE, dirty)
    delta = write(memory, 2, full, dirty)
    assert codecs(delta) == {XOR_ZSTD}
    assert delta.statistics.bytes_stored < len(dirty) * 100
    assert same(delta, memory)


def test_scattered_pages_are_looked_up_only_within_the_allowance(monkeypatch: pytest.MonkeyPatch) -> None:
    full = write(NOISE)
    dirty = np.arange(0, 1024, 64, dtype=np.uint64)
    memory = touched(NOISE, dirty)
    delta = write(memory, 2, full, dirty)
    assert codecs(delta) == {XOR_ZSTD}
    monkeypatch.setattr(parents, "ALLOWANCE", 0)
    before = full.cache.decoded
    plain = write(memory, 2, full, dirty)
    assert XOR_ZSTD not in codecs(plain)
    assert full.cache.decoded == before
    assert same(delta, memory)
    assert same(plain, memory)
    assert codecs(write(memory, 2, full, dirty, thrifty=False)) == {XOR_ZSTD}


def test_a_unit_may_hold_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parents, "ALLOWANCE", 0)
    full = write(NOISE)
    dirty = np.concatenate([np.arange(0, 64), np.arange(64, 1024, 64)]).astype(np.uint64)
    memory = touched(NOISE, dirty)
    memory[128] = NOISE[5]  # and one that is not alike at all
    delta = write(memory, 2, full, dirty)
    runs = delta.layers[0].maps[KEY]
    assert int(runs.nr_pages[runs.kind == 2].sum()) == 64
    assert same(delta, memory)


def test_a_chain_of_scattered_rounds_reads_back() -> None:
    rng = np.random.default_rng(6)
    memory, tip = NOISE, write(NOISE)
    for number in range(2, 12):
        dirty = np.sort(rng.choice(1024, int(rng.integers(1, 300)), replace=False)).astype(np.uint64)
        memory = touched(memory, dirty)
        tip = write(memory, number, tip, dirty)
    assert same(tip, memory)


def test_pages_that_cannot_be_read_are_left_out() -> None:
    every = np.arange(600, dtype=np.uint64)
    sink = MemorySink()
    writer = ImageWriter(sink, image_header())
    space = writer.space(KEY, PageRuns.from_pages(every, DATA))

    def load(out: U8) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        out[:] = NOISE[: len(out)]
        return np.arange(len(out)) % 3 != 1

    for at in range(0, 600, 256):
        space.pull(every[at : at + 256], load)
    space.settle()
    space.close()
    writer.finish(Statistics())
    view = View([ImageReader(BytesSource(bytes(sink.data)))])
    keep = [n for n in range(600) if n % 256 % 3 != 1]
    assert view.runs(KEY).pages().tolist() == keep
    found = np.frombuffer(view.read_pages(KEY, np.array(keep, np.uint64)), np.uint8).reshape(-1, 4096)
    assert (found == NOISE[[n % 256 for n in keep]]).all()
