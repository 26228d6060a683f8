"""What the writer makes of the pages that it is given."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from ckpt.chain.layers import View
from ckpt.chain.parent import ParentPages
from ckpt.errors import ImageError, ImageWriteError
from ckpt.image.layout import PAGES, RAW, XOR_ZSTD, ZSTD
from ckpt.image.reader import ImageReader
from ckpt.image.sinks import MemorySink
from ckpt.image.sources import BytesSource
from ckpt.image.writer import ImageWriter
from ckpt.pages.hashes import seed_of
from ckpt.records.image import Statistics
from ckpt.records.runs import DATA, GUARD, PARENT, U8, ZERO, PageRuns
from tests.support.images import CHAIN_ID, image_header, numbers, page, pages, read_everything, records, small_image

RNG = np.random.default_rng(9)


def write(
    content: dict[int, U8],
    parent: View | None = None,
    number: int = 1,
    kept: tuple[int, ...] = (),
    hashed: bool = False,
) -> View:
    """An image of one space, on top of `parent`."""
    sink = MemorySink()
    header = image_header(number, parent.header.image_id if parent else None)
    writer = ImageWriter(
        sink, header, base=ParentPages(parent) if parent else None, hash_seed=seed_of(CHAIN_ID) if hashed else None
    )
    every = sorted({*content, *kept})
    kinds = np.array([DATA if n in content else PARENT for n in every], np.uint8)
    space = writer.space("mm:41", PageRuns.from_pages(numbers(*every), kinds))
    if content:
        space.put(numbers(*sorted(content)), np.stack([content[n] for n in sorted(content)]).reshape(-1).data)
    space.close()
    writer.finish(Statistics())
    return View([ImageReader(BytesSource(bytes(sink.data))), *(parent.layers if parent else ())])


def codecs(view: View) -> list[int]:
    reader = view.layers[0]
    return [reader.index.header(frame).codec for frame in reader.index.of_kind(PAGES)]


def test_small_image() -> None:
    view = read_everything(small_image())
    assert list(view.spaces()) == ["mm:41", "shm:1:2"]
    runs = view.runs("mm:41")
    assert runs.of(DATA).pages().tolist() == [16, 17, 18, 20]
    assert runs.of(ZERO).pages().tolist() == [19]
    assert runs.of(GUARD).pages().tolist() == [22]
    assert runs.total == 6
    assert view.read_pages("mm:41", numbers(18, 19, 16)) == page(3).tobytes() + bytes(4096) + page(1).tobytes()
    assert view.runs("shm:1:2").of(ZERO).pages().tolist() == [0]
    assert view.runs("nothing").total == 0
    assert [list(view.records(r.RECORD_NAME)) for r in records()] == [[r] for r in records()]  # type: ignore[attr-defined]
    statistics = view.statistics
    assert (statistics.pages_written, statistics.pages_zero, statistics.frozen_time) == (5, 2, 1200)
    assert statistics.bytes_plain == 5 * 4096
    assert view.read_pages("mm:41", numbers()) == b""
    with pytest.raises(ImageError, match="has no bytes"):
        view.read_pages("mm:41", numbers(22))


def test_the_same_input_gives_the_same_bytes() -> None:
    assert small_image() == small_image()


def test_codec_is_chosen_by_trial() -> None:
    noise = RNG.integers(0, 256, 4096, dtype=np.uint8)
    assert codecs(write({1: noise})) == [RAW]
    assert codecs(write({1: page(1)})) == [ZSTD]
    full = write({1: noise, 2: page(2)})
    small_write = noise.copy()
    small_write[17] ^= 1
    assert codecs(write({1: small_write}, full, 2, (2,))) == [XOR_ZSTD]
    assert codecs(write({1: RNG.integers(0, 256, 4096, dtype=np.uint8)}, full, 2, (2,))) == [RAW]


def test_frames_hold_64_pages_however_scattered() -> None:
    content = {n * 3: page(n) for n in range(200)}
    view = write(content)
    sizes = [view.layers[0].index.header(f).plain_size for f in view.layers[0].index.of_kind(PAGES)]
    assert sizes == [64 * 4096] * 3 + [8 * 4096]
    assert view.read_pages("mm:41", numbers(*content)) == b"".join(p.tobytes() for p in content.values())


def test_what_did_not_change_is_parent() -> None:
    full = write({1: page(1), 2: page(2), 3: page(3)})
    delta = write({1: page(1), 2: page(5)}, full, 2, (3,))
    assert delta.layers[0].maps["mm:41"].runs().of(PARENT).pages().tolist() == [1, 3]
    assert delta.statistics.pages_skipped_parent == 2
    assert delta.statistics.pages_written == 1
    assert delta.runs("mm:41").of(DATA).pages().tolist() == [1, 2, 3]


def test_equal_hashes_save_reading_the_parent() -> None:
    content = {n: RNG.integers(0, 256, 4096, dtype=np.uint8) for n in range(10)}
    full = write(content, hashed=True)
    before = full.cache.decoded
    same = write(content, full, 2, hashed=True)
    assert same.statistics.pages_skipped_parent == 10
    assert full.cache.decoded == before
    content[3] = content[3].copy()
    content[3][9] ^= 1
    content[20] = page(1)
    third = write(content, same, 3, hashed=True)
    assert (third.statistics.pages_skipped_parent, third.statistics.pages_written) == (9, 2)
    assert third.read_pages("mm:41", numbers(*content)) == b"".join(p.tobytes() for p in content.values())
    without = write(content, write(content), 2, hashed=True)
    assert without.statistics.pages_skipped_parent == 11


def test_a_page_new_to_the_space_shares_a_frame_with_changed_ones() -> None:
    noise = [RNG.integers(0, 256, 4096, dtype=np.uint8) for _ in range(8)]
    full = write(dict(enumerate(noise)))
    changed = {n: np.where(np.arange(4096) == 5, 77, content).astype(np.uint8) for n, content in enumerate(noise)}
    changed[20] = page(3)
    delta = write(changed, full, 2)
    assert codecs(delta) == [XOR_ZSTD]
    assert delta.read_pages("mm:41", numbers(*changed)) == b"".join(p.tobytes() for p in changed.values())


def test_xor_does_not_go_deeper_and_deeper() -> None:
    noise = RNG.integers(0, 256, 4096, dtype=np.uint8)
    view = write({1: noise})
    seen = []
    for number in range(2, 30):
        noise = noise.copy()
        noise[number] ^= 1
        view = write({1: noise}, view, number)
        seen += codecs(view)
    assert seen.count(RAW) == 1
    assert view.read_pages("mm:41", numbers(1)) == noise.tobytes()


def test_a_frame_on_the_wrong_parent_is_noticed() -> None:
    noise = RNG.integers(0, 256, (2, 4096), dtype=np.uint8)
    right, wrong = write({1: noise[0]}), write({1: noise[1]})
    changed = noise[0].copy()
    changed[9] ^= 1
    delta = write({1: changed}, right, 2)
    mixed = View([delta.layers[0], wrong.layers[0]])
    with pytest.raises(ImageError, match="does not fit the content of its parent"):
        mixed.read_pages("mm:41", numbers(1))


def test_pages_that_the_parent_does_not_have_are_refused() -> None:
    full = write({1: page(1)})
    delta = write({}, full, 2, (1, 2))
    with pytest.raises(ImageError, match="its parent does not have"):
        delta.runs("mm:41")
    with pytest.raises(ImageError, match="its parent does not have"):
        delta.read_pages("mm:41", numbers(2))


def test_a_page_is_put_once_and_only_where_it_was_announced() -> None:
    def attempt(*put: tuple[int, ...], drop: tuple[int, ...] = ()) -> None:
        sink = MemorySink()
        writer = ImageWriter(sink, image_header())
        try:
            space = writer.space("mm:41", PageRuns.from_pages(numbers(1, 2, 3, 9), DATA))
            for some in put:
                space.put(numbers(*some), pages(*some).reshape(-1).data)
            space.drop(numbers(*drop))
            space.close()
            writer.finish(Statistics())
        finally:
            writer.abort()

    attempt((1, 2), (3, 9))
    attempt((3, 9), (1, 2))
    attempt((1, 2), (9,), drop=(3,))
    attempt(drop=(9, 1, 2, 3))
    with pytest.raises(ImageWriteError, match="1 pages were neither put nor dropped"):
        attempt((1, 2, 3))
    with pytest.raises(ImageWriteError, match="put twice"):
        attempt((1, 2, 3), (3, 9))
    with pytest.raises(ImageWriteError, match="not in its map"):
        attempt((1, 2, 3, 9), (10,))
    with pytest.raises(ImageWriteError, match="not in its map"):
        attempt((1, 2, 3, 4), (9,))


def test_misuse_of_the_writer() -> None:
    writer = ImageWriter(MemorySink(), image_header())
    writer.space("a", PageRuns.empty()).close()
    with pytest.raises(ImageWriteError, match="already"):
        writer.space("a", PageRuns.empty())
    with pytest.raises(ImageWriteError, match="cannot be called"):
        writer.space("", PageRuns.empty())
    with pytest.raises(ImageWriteError, match="refers to a parent"):
        writer.space("b", PageRuns.from_pages(numbers(1), PARENT))
    with pytest.raises(ValueError, match="page numbers"):
        writer.space("c", PageRuns.from_pages(numbers(1, 2), DATA)).put(numbers(1, 2), memoryview(bytes(4096)))
    writer.abort()
    writer.abort()
    with pytest.raises(ImageWriteError, match="closed"):
        writer.add(records()[0])


def test_an_image_of_nothing() -> None:
    sink = MemorySink()
    ImageWriter(sink, image_header()).finish(Statistics())
    view = read_everything(bytes(sink.data))
    assert list(view.spaces()) == []


def test_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(ImageWriteError, match="can't start new thread"):
        small_image()
