"""Spaces with the same bytes, as forked tasks have: each frame is stored once, in rounds and in merged images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ckpt.chain.directory import Chain
from ckpt.chain.layers import view
from ckpt.chain.merge import merge
from ckpt.chain.verify import checked
from ckpt.engine.copying import _blocks
from ckpt.errors import ImageError
from ckpt.image.layout import PAGES, XOR_ZSTD
from ckpt.image.reader import ImageReader
from ckpt.image.scan import rebuild
from ckpt.image.sinks import MemorySink
from ckpt.image.sources import BytesSource
from ckpt.image.writer import ImageWriter
from ckpt.records.image import Statistics
from ckpt.records.runs import DATA, U8, PageRuns
from tests.support.images import begin, image_header, memory_of, numbers

RNG = np.random.default_rng(3)
SPACES = ("mm:41", "mm:42", "mm:43")


def noise(count: int) -> U8:
    return RNG.integers(0, 256, (count, 4096), np.uint8)


def runs(first: int, count: int) -> PageRuns:
    return PageRuns(numbers(first), numbers(count), np.array([DATA], np.uint8))


def put(writer: ImageWriter, key: str, content: U8, first: int = 1000) -> None:
    space = writer.space(key, runs(first, len(content)))
    space.put(np.arange(first, first + len(content), dtype=np.uint64), content.reshape(-1).data)
    space.close()


def test_equal_frames_are_stored_once() -> None:
    sink, content = MemorySink(), noise(130)
    other = content.copy()
    other[70, 0] ^= 1
    writer = ImageWriter(sink, image_header())
    for key, mine in zip(SPACES, (content, other, content), strict=True):
        put(writer, key, mine)
    statistics = writer.finish(Statistics())
    reader = ImageReader(BytesSource(bytes(sink.data)))
    assert len(reader.index.of_kind(PAGES)) == 4, "three frames, and the one that differs"
    assert statistics.pages_written == 3 * 130 and statistics.bytes_plain == 3 * content.nbytes
    assert statistics.bytes_stored < 1.6 * content.nbytes
    assert not [found for found in checked(reader) if isinstance(found, ImageError)]
    again = MemorySink()
    rebuild(BytesSource(bytes(sink.data)[:-200]), again)
    assert bytes(again.data) == bytes(sink.data)


def test_equal_frames_of_one_space_stay_two() -> None:
    sink, content = MemorySink(), noise(64)
    writer = ImageWriter(sink, image_header())
    put(writer, "mm:41", np.concatenate([content, content]))
    writer.finish(Statistics())
    assert len(ImageReader(BytesSource(bytes(sink.data))).index.of_kind(PAGES)) == 2


def test_chains_and_merged_images(tmp_path: Path) -> None:
    content = noise(256)
    truth = {key: content.copy() for key in SPACES}
    with Chain.open(tmp_path / "chain", create=True) as chain:
        for number in range(3):
            with begin(chain, None if number else "first round", "dump" if number == 2 else "pre-dump") as made:
                for key in SPACES:
                    space = made.space(key, runs(1000, 256))
                    space.put(np.arange(1000, 1256, dtype=np.uint64), truth[key].reshape(-1).data)
                    space.close()
                made.commit(Statistics())
            for at, key in enumerate(SPACES):  # one page changes in each, the same in two of them
                truth[key][number, 7] ^= 1 + at // 2
    for key in SPACES:
        truth[key][2, 7] ^= 1 + SPACES.index(key) // 2  # what came after the last round
    merge(tmp_path / "chain", tmp_path / "merged.ckpt")
    for source in (tmp_path / "chain", tmp_path / "merged.ckpt"):
        with view(source) as found:
            for key in SPACES:
                assert memory_of(found, key) == {1000 + n: truth[key][n].tobytes() for n in range(256)}
    reader = ImageReader.open(tmp_path / "merged.ckpt")
    try:
        codecs = [reader.index.header(frame).codec for frame in reader.index.of_kind(PAGES)]
        assert XOR_ZSTD not in codecs and len(codecs) < 3 * 4
    finally:
        reader.close()


@pytest.mark.parametrize("shift", [0, 1, 4095])
def test_blocks_of_addresses(shift: int) -> None:
    spans = [(100 + shift, 5000), (9000 + shift, 3), (20_000, 1), (40_960, 4096 * 3)]
    table = PageRuns(
        numbers(*(start for start, _ in spans)), numbers(*(n for _, n in spans)), np.full(4, DATA, np.uint8)
    )
    parts = list(_blocks(table))
    found = [page for part in parts for page in part.pages().tolist()]
    assert found == table.pages().tolist()
    for part in parts:
        assert len(set((part.pages() // np.uint64(4096)).tolist())) == 1
    assert list(_blocks(PageRuns.empty())) == []
