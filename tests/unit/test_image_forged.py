"""Images whose checksums fit but whose content cannot be: an ImageError or a sound result, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import blake3
import numpy as np
import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ckpt.errors import ImageError
from ckpt.image.ending import pack_end
from ckpt.image.layout import HASHES, INDEX, PAGEMAP, PAGES, RAW, RECORD, ZSTD, FrameHeader, pack_prologue
from ckpt.image.reader import ImageReader
from ckpt.image.sources import BytesSource
from ckpt.image.spacemap import CHUNK, SpaceMap, chunks_of_map, parse_chunk, parse_map
from ckpt.pages.compress import compress
from tests.support.images import read_everything, small_image

READER = ImageReader(BytesSource(small_image()))
FRAMES = [(int(READER.index.kinds[n]), READER.plain(n)) for n in range(len(READER.index.kinds))]


def forge(frames: list[tuple[int, bytes]], codec: int = RAW) -> bytes:
    """An image of these frames with every checksum right."""
    out = bytearray(pack_prologue())
    headers = b""
    for sequence, (kind, plain) in enumerate(frames):
        payload = compress(plain) if codec == ZSTD else plain
        digest = blake3.blake3(plain).digest()
        header = FrameHeader(
            kind, codec, 0, len(payload), len(plain), sequence, xxhash.xxh3_64_intdigest(payload), digest
        ).pack()
        headers += header
        out += header + payload
    for part in pack_end(headers, len(out)):
        out += part
    return bytes(out)


def allowed(data: bytes) -> bool:
    """Whether the image is read; anything but ImageError goes through."""
    try:
        read_everything(data)
    except ImageError:
        return False
    return True


def replaced(frame: int, plain: bytes) -> bytes:
    frames = list(FRAMES)
    frames[frame] = (frames[frame][0], plain)
    return forge(frames)


def frame_of(kind: int) -> int:
    return next(n for n, (found, _) in enumerate(FRAMES) if found == kind)


def test_the_unchanged_frames_are_read() -> None:
    assert allowed(forge(FRAMES)) and allowed(forge(FRAMES, ZSTD))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_frame_with_other_bytes(data: st.DataObject) -> None:
    frame = data.draw(st.integers(0, len(FRAMES) - 1))
    plain = bytearray(FRAMES[frame][1])
    for _ in range(data.draw(st.integers(1, 3))):
        plain[data.draw(st.integers(0, len(plain) - 1))] = data.draw(st.integers(0, 255))
    allowed(replaced(frame, bytes(plain)))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, len(FRAMES) - 1), st.binary(max_size=120), st.booleans())
def test_any_frame_with_any_bytes(frame: int, plain: bytes, appended: bool) -> None:
    allowed(replaced(frame, FRAMES[frame][1] + plain if appended else plain))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(FRAMES), max_size=14))
def test_frames_in_any_order(frames: list[tuple[int, bytes]]) -> None:
    allowed(forge(frames))


def changed_map(change: Callable[[SpaceMap], None]) -> bytes:
    frame = frame_of(PAGEMAP)
    chunk = parse_chunk(FRAMES[frame][1], 23, "here")
    table = parse_map(chunk.rows, chunk.body)
    copy = SpaceMap(*[getattr(table, name).copy() for name in ("start", "nr_pages", "kind", "frame", "offset")])
    change(copy)
    return replaced(frame, next(iter(chunks_of_map(chunk.key, copy))))


def put(column: str, row: int, value: int) -> Callable[[SpaceMap], None]:
    def change(table: SpaceMap) -> None:
        getattr(table, column)[row] = value

    return change


@pytest.mark.parametrize(
    ("column", "row", "value"),
    [
        ("start", 0, 2**63),
        ("start", 0, 40),
        ("start", 1, 0),
        ("nr_pages", 0, 0),
        ("nr_pages", 0, 2),
        ("nr_pages", 0, 2**64 - 1),
        ("nr_pages", 1, 2**40),
        ("kind", 0, 0),
        ("kind", 0, 2),
        ("kind", 0, 3),
        ("kind", 0, 4),
        ("kind", 0, 6),
        ("kind", 1, 1),
        ("frame", 0, 0),
        ("frame", 0, 2**32 - 1),
        ("offset", 0, 1),
        ("offset", 0, 65535),
    ],
)
def test_a_map_that_cannot_be(column: str, row: int, value: int) -> None:
    assert not allowed(changed_map(put(column, row, value)))


def test_two_rows_for_one_slot() -> None:
    def change(table: SpaceMap) -> None:
        table.offset[np.flatnonzero(table.kind == 1)] = 0

    assert not allowed(changed_map(change))


def test_chunks_out_of_order() -> None:
    frame = frame_of(PAGEMAP)
    plain = FRAMES[frame][1]
    key_size, _, _, _, rows = CHUNK.unpack_from(plain)
    for chunk, chunks in ((1, 2), (0, 2), (0, 0), (1, 1)):
        assert not allowed(replaced(frame, CHUNK.pack(key_size, 0, chunk, chunks, rows) + plain[CHUNK.size :]))
    assert not allowed(replaced(frame, CHUNK.pack(key_size, 0, 0, 1, 2**63) + plain[CHUNK.size :]))
    cut = CHUNK.size + key_size
    based = CHUNK.pack(key_size, 4, 0, 1, rows) + plain[CHUNK.size : cut] + b"mm:1" + plain[cut:]
    assert not allowed(replaced(frame, based))  # in an image without a parent


def test_hashes_that_do_not_fit() -> None:
    frame = frame_of(HASHES)
    plain = FRAMES[frame][1]
    key_size, _, _, _, rows = CHUNK.unpack_from(plain)
    assert not allowed(replaced(frame, CHUNK.pack(key_size, 0, 0, 1, rows - 1) + plain[CHUNK.size : -16]))


def test_an_image_without_its_ends() -> None:
    assert not allowed(forge(FRAMES[1:]))
    assert not allowed(forge(FRAMES[:-1]))
    assert not allowed(forge([]))
    assert not allowed(forge([FRAMES[-1], *FRAMES[1:-1], FRAMES[0]]))
    assert not allowed(forge([*FRAMES[:-1], (INDEX, b""), FRAMES[-1]]))


def test_a_zstd_frame_that_names_another_size() -> None:
    """The allocation follows the header's plain size only when the zstd frame agrees with it."""
    plain = bytes(1 << 20)
    payload = compress(plain)
    for kind, size in ((RECORD, 16 << 20), (PAGES, 4096)):
        out = bytearray(pack_prologue())
        header = FrameHeader(
            kind, ZSTD, 0, len(payload), size, 0, xxhash.xxh3_64_intdigest(payload), blake3.blake3(plain).digest()
        ).pack()
        out += header + payload
        for part in pack_end(header, len(out)):
            out += part
        with pytest.raises(ImageError):
            ImageReader(BytesSource(bytes(out))).plain(0)
