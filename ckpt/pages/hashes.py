"""Seeded 128-bit page hashes: what the content-hash tracker compares."""

from __future__ import annotations

import numpy as np
import xxhash

from ckpt.pages.compare import Buffer
from ckpt.records.runs import PAGE_SIZE, U8

HASH_SIZE = 16


def seed_of(chain_id: bytes) -> int:
    """The seed of a chain's page hashes, the same in all its rounds."""
    return int.from_bytes(chain_id[:8], "little")


def hash_pages(data: Buffer, seed: int) -> U8:
    """XXH3-128 (canonical, big-endian digest) of each whole page of `data`; shape (n, 16)."""
    view = memoryview(data)
    if not view.nbytes:
        return np.empty((0, HASH_SIZE), np.uint8)  # an empty view cannot be cast
    view = view.cast("B")
    digest = xxhash.xxh3_128_digest
    joined = b"".join([digest(view[at : at + PAGE_SIZE], seed) for at in range(0, len(view), PAGE_SIZE)])
    return np.frombuffer(joined, np.uint8).reshape(-1, HASH_SIZE)


def zero_hash(seed: int) -> U8:
    """The hash of an all-zero page; shape (16,)."""
    result: U8 = hash_pages(bytes(PAGE_SIZE), seed)[0]
    return result
