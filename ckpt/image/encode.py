"""One page frame: which pages need no bytes, and whether raw, zstd or XOR with zstd is smallest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import blake3
import numpy as np
import numpy.typing as npt

from ckpt.image.layout import MAX_XOR_DEPTH, RAW, XOR_ZSTD, ZSTD
from ckpt.pages.compare import as_pages, xor_pages, zero_pages
from ckpt.pages.compress import compress
from ckpt.pages.hashes import HASH_SIZE, hash_pages
from ckpt.records.runs import DATA, PARENT, U8, U64, XOR, ZERO

# zstd has to win this much over raw, and XOR over zstd: both cost time when the page is read.
WORTH = 0.95
# XOR that shrinks a frame to this is taken without trying plain zstd.
CLEARLY = 0.125


class PageBase(Protocol):
    """The bytes that pages had in the parent."""

    def bases(self, key: str, pages: U64) -> tuple[npt.NDArray[np.bool_], U8, int]:
        """(known, bytes, depth): which pages have bytes in the parent, shape (n,); all n pages, shape
        (n, 4096), zero where not known; how deep their XOR goes already. Safe from several threads."""

    def page_hashes(self, key: str, pages: U64) -> tuple[npt.NDArray[np.bool_], U8]:
        """(known, hashes): which pages have a stored hash, shape (n,); the hashes, shape (n, 16)."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A frame ready to be written, and what became of its pages; no payload when no page needs bytes."""

    pages: U64
    kinds: U8  # of each page: DATA, XOR, PARENT, ZERO
    codec: int
    depth: int
    payload: bytes
    plain_size: int
    plain_hash: bytes
    hashes: U8 | None  # of the stored pages, shape (m, 16)


def encode_frame(
    key: str,
    pages: U64,
    data: U8,
    *,
    base: PageBase | None,
    level: int,
    hash_seed: int | None,
) -> Encoded:
    """Choose for one frame; `data` has shape (n, 4096), contiguous."""
    kinds = np.full(len(pages), DATA, np.uint8)
    kinds[zero_pages(data)] = ZERO
    hashes = None if hash_seed is None else hash_pages(data.data, hash_seed)
    difference: U8 | None = None
    depth = 0
    if base is not None and hashes is not None:
        # Equal hashes tell that a page has not changed without decompressing what it was.
        known, old = base.page_hashes(key, pages)
        kinds[known & (kinds == DATA) & (old == hashes).all(axis=1)] = PARENT
    asked = np.flatnonzero(kinds == DATA)
    if base is not None and len(asked):
        difference, depth = _against(base, key, pages, data, kinds, asked)
    stored = (kinds == DATA) | (kinds == XOR)
    if not stored.any():
        return Encoded(pages, kinds, RAW, 0, b"", 0, bytes(32), _no_hashes(hash_seed))
    plain = data if stored.all() else data[stored]
    payload, codec = _smallest(plain, None if difference is None else difference[stored], level)
    if codec != XOR_ZSTD:
        kinds[kinds == XOR] = DATA
    return Encoded(
        pages,
        kinds,
        codec,
        depth + 1 if codec == XOR_ZSTD else 0,
        payload,
        plain.nbytes,
        blake3.blake3(plain.data).digest(),
        None if hashes is None else hashes[stored],
    )


def _against(
    base: PageBase, key: str, pages: U64, data: U8, kinds: U8, asked: npt.NDArray[np.int64]
) -> tuple[U8 | None, int]:
    """Compare the asked pages with the parent's, note PARENT and XOR in `kinds`; the difference of all pages."""
    whole = len(asked) == len(pages)
    known, old, depth = base.bases(key, pages if whole else pages[asked])
    if not known.any():
        return None, 0
    part = xor_pages(data if whole else data[asked], old)
    same = known & zero_pages(part)
    changed = known & ~same
    kinds[asked[same]] = PARENT
    if depth >= MAX_XOR_DEPTH or not changed.any():
        return None, 0
    kinds[asked[changed]] = XOR
    if whole:
        return part, depth
    difference = np.empty_like(data)
    difference[asked] = part
    return difference, depth


def _smallest(plain: U8, difference: U8 | None, level: int) -> tuple[bytes, int]:
    xored: bytes | None = None
    if difference is not None:
        # `old` is zero where the parent has no bytes, so those pages stand unchanged in the difference.
        xored = compress(difference.data, level)
        if len(xored) <= plain.nbytes * CLEARLY:
            return xored, XOR_ZSTD
    packed = compress(plain.data, level)
    best: tuple[bytes, int] = (packed, ZSTD) if len(packed) <= plain.nbytes * WORTH else (plain.tobytes(), RAW)
    if xored is not None and len(xored) <= len(best[0]) * WORTH:
        best = (xored, XOR_ZSTD)
    return best


def _no_hashes(hash_seed: int | None) -> U8 | None:
    return None if hash_seed is None else np.empty((0, HASH_SIZE), np.uint8)


def as_frame(buffer: bytearray, count: int) -> U8:
    """The first `count` pages of a frame buffer."""
    return as_pages(memoryview(buffer)[: count * 4096])
