"""Some pages of one space: which need no bytes, and for each frame whether raw, zstd or XOR with zstd is smallest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import blake3
import numpy as np
import numpy.typing as npt
import xxhash

from ckpt.image.layout import FRAME_PAGES, MAX_XOR_DEPTH, RAW, XOR_ZSTD, ZSTD
from ckpt.pages.compare import xor_into, zero_pages
from ckpt.pages.compress import compress
from ckpt.pages.hashes import hash_pages
from ckpt.records.runs import DATA, PARENT, U8, U64, XOR, ZERO

# zstd has to win this much over raw, and XOR over zstd: both cost time when the page is read.
WORTH = 0.95
# XOR that shrinks a frame to this is taken without trying plain zstd.
CLEARLY = 0.125


class PageBase(Protocol):
    """The bytes that pages had in the parent."""

    def bases(self, key: str, pages: U64) -> tuple[npt.NDArray[np.bool_], U8, U8]:
        """(known, bytes, depths): which pages have bytes in the parent that are worth a look, shape (n,); all n
        pages, shape (n, 4096), zero where not known, the caller's to change; how deep the XOR of each goes already,
        shape (n,). Safe from several threads."""

    def page_hashes(self, key: str, pages: U64) -> tuple[npt.NDArray[np.bool_], U8]:
        """(known, hashes): which pages have a stored hash, shape (n,); the hashes, shape (n, 16)."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame ready to be written; `kinds` of its pages are DATA or XOR."""

    pages: U64
    kinds: U8
    codec: int
    depth: int
    payload: bytes
    stored_sum: int
    plain_size: int
    plain_hash: bytes
    hashes: U8 | None  # of the pages, shape (n, 16)


@dataclass(frozen=True, slots=True)
class Encoded:
    """What became of some pages: those in frames, and those that need no bytes (`kinds` PARENT or ZERO)."""

    frames: tuple[Frame, ...]
    pages: U64
    kinds: U8


def encode_pages(
    key: str,
    pages: U64,
    data: U8,
    *,
    base: PageBase | None,
    level: int,
    hash_seed: int | None,
) -> Encoded:
    """Choose for each page and each frame; `data` has shape (n, 4096), contiguous."""
    kinds = np.full(len(pages), DATA, np.uint8)
    kinds[zero_pages(data)] = ZERO
    hashes = None if hash_seed is None else hash_pages(data.data, hash_seed)
    if base is not None and hashes is not None:
        # Equal hashes tell that a page has not changed without decompressing what it was.
        known, old = base.page_hashes(key, pages)
        kinds[known & (kinds == DATA) & (old == hashes).all(axis=1)] = PARENT
    difference, depths = (None, None) if base is None else _against(base, key, pages, data, kinds)
    bare = (kinds == ZERO) | (kinds == PARENT)
    left, left_kinds = pages[bare], kinds[bare]
    if len(left):
        stored = ~bare
        pages, kinds, data = pages[stored], kinds[stored], data[stored]
        hashes = None if hashes is None else hashes[stored]
        difference = None if difference is None else difference[stored]
        depths = None if depths is None else depths[stored]
    frames = []
    for at in range(0, len(pages), FRAME_PAGES):
        part = slice(at, at + FRAME_PAGES)
        mine, plain = kinds[part], data[part]
        xored = mine == XOR
        use = difference is not None and bool(xored.any())
        payload, codec = _smallest(plain, difference[part] if use and difference is not None else None, level)
        depth = 0
        if codec == XOR_ZSTD and depths is not None:
            depth = 1 + int(depths[part][xored].max())
        else:
            mine[:] = DATA
        digest = blake3.blake3(plain.data).digest()
        frames.append(
            Frame(
                pages[part], mine, codec, depth, payload, xxhash.xxh3_64_intdigest(payload), plain.nbytes, digest,
                None if hashes is None else hashes[part],
            )
        )  # fmt: skip
    return Encoded(tuple(frames), left, left_kinds)


def _against(base: PageBase, key: str, pages: U64, data: U8, kinds: U8) -> tuple[U8 | None, U8 | None]:
    """Compare the DATA pages with the parent's, note PARENT and XOR in `kinds`; the difference of all pages, and the
    depth of each base."""
    asked = np.flatnonzero(kinds == DATA)
    if not len(asked):
        return None, None
    whole = len(asked) == len(pages)
    known, old, depths = base.bases(key, pages if whole else pages[asked])
    if not known.any():
        return None, None
    mine = data if whole else data[asked]
    # `old` is zero where the parent has no bytes, so those pages stand unchanged in the difference.
    xor_into(old, mine)
    part = old
    same = known & zero_pages(part)
    changed = known & ~same & (depths < MAX_XOR_DEPTH)
    kinds[asked[same]] = PARENT
    if not changed.any():
        return None, None
    kinds[asked[changed]] = XOR
    too_deep = known & ~same & ~changed
    if too_deep.any():
        part[too_deep] = mine[too_deep]
    if whole:
        return part, depths
    difference, deep = np.empty_like(data), np.zeros(len(pages), np.uint8)
    difference[asked], deep[asked] = part, depths
    return difference, deep


def _smallest(plain: U8, difference: U8 | None, level: int) -> tuple[bytes, int]:
    xored: bytes | None = None
    if difference is not None:
        xored = compress(difference.data, level)
        if len(xored) <= plain.nbytes * CLEARLY:
            return xored, XOR_ZSTD
    packed = compress(plain.data, level)
    best: tuple[bytes, int] = (packed, ZSTD) if len(packed) <= plain.nbytes * WORTH else (plain.tobytes(), RAW)
    if xored is not None and len(xored) <= len(best[0]) * WORTH:
        best = (xored, XOR_ZSTD)
    return best
