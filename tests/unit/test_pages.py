"""The page codecs."""

from __future__ import annotations

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from ckpt.pages.compare import as_pages, xor_into, zero_pages
from ckpt.pages.compress import compress, decompress, decompress_into
from ckpt.pages.hashes import hash_pages, zero_hash

RNG = np.random.default_rng(5)


def test_as_pages_is_no_copy() -> None:
    buffer = bytearray(3 * 4096)
    as_pages(buffer)[1, 7] = 9
    assert buffer[4096 + 7] == 9
    with pytest.raises(ValueError, match="whole pages"):
        as_pages(bytes(4097))


@pytest.mark.parametrize("at", [0, 7, 8, 2048, 4095])
def test_one_byte_makes_a_page_nonzero(at: int) -> None:
    pages = np.zeros((5, 4096), np.uint8)
    pages[3, at] = 1
    assert zero_pages(pages).tolist() == [True, True, True, False, True]


def test_zero_pages_of_nothing() -> None:
    assert zero_pages(np.empty((0, 4096), np.uint8)).tolist() == []


def test_xor_and_equal() -> None:
    one = RNG.integers(0, 256, (4, 4096), dtype=np.uint8)
    other = one.copy()
    other[2, 4095] ^= 1
    difference = one.copy()
    xor_into(difference, other)
    assert np.flatnonzero(difference).tolist() == [2 * 4096 + 4095]
    xor_into(difference, other)
    assert np.array_equal(difference, one)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=9000))
def test_compression_round_trip(data: bytes) -> None:
    assert decompress(compress(data), len(data)) == data
    room = bytearray(len(data))
    decompress_into(compress(data), memoryview(room))
    assert room == data
    with pytest.raises(ValueError, match="plain bytes"):
        decompress_into(compress(data), memoryview(bytearray(len(data) + 1)))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_what_is_no_zstd_is_a_value_error(data: bytes) -> None:
    try:
        decompress(data, 4096)
    except ValueError:
        pass


def test_a_wrong_size_is_a_value_error() -> None:
    packed = compress(bytes(4096))
    for size in (0, 4095, 4097, 1 << 40):
        with pytest.raises(ValueError, match="plain bytes"):
            decompress(packed, size)
    with pytest.raises(ValueError):
        decompress(packed + b"x", 4096)


def test_hashes_are_those_of_xxhash() -> None:
    pages = RNG.integers(0, 256, (3, 4096), dtype=np.uint8)
    hashes = hash_pages(pages.data, 11)
    assert hashes.shape == (3, 16)
    for page, digest in zip(pages, hashes, strict=True):
        assert xxhash.xxh3_128_digest(page.tobytes(), 11) == digest.tobytes()
    assert zero_hash(11).tobytes() == xxhash.xxh3_128_digest(bytes(4096), 11)
    assert zero_hash(12).tobytes() != zero_hash(11).tobytes()
