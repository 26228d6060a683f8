"""What a tracker remembers from one round to the next: opaque bytes, tagged with the tracker and the boot."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgpack
import numpy as np

from ckpt.records.runs import U64
from ckpt.records.seams import MmAccess

_VERSION = 3
_HASH_SIZE = 16


def pack(tracker: str, fields: dict[str, Any]) -> bytes:
    """The state of one tracker, behind a hash of it; arrays of numbers become bytes."""
    plain: dict[str, Any] = {"tracker": tracker, "version": _VERSION}
    for key, value in fields.items():
        plain[key] = value.astype("<u8").tobytes() if isinstance(value, np.ndarray) else value
    body = bytes(msgpack.packb(plain, use_bin_type=True))
    return _hash(body) + body


def unpack(tracker: str, state: bytes | None) -> tuple[Mapping[str, Any], str | None]:
    """(fields, None), or ({}, why the state is worth nothing to this tracker)."""
    if state is None:
        return {}, "first round of this address space"
    fields = _decoded(state)
    if fields is None:
        return {}, "the tracker's state of the last round is damaged"
    if fields["version"] != _VERSION:
        return {}, "the tracker's state of the last round is of another version"
    if fields["tracker"] != tracker:
        return {}, f"the last round was tracked by {fields['tracker']}, this one is by {tracker}"
    return fields, None


@lru_cache(maxsize=256)
def _decoded(state: bytes) -> Mapping[str, Any] | None:
    """What `pack` made into bytes; None when they are damaged. Remembered: asked for before the freeze, it is there."""
    body = state[_HASH_SIZE:]
    if state[:_HASH_SIZE] != _hash(body):
        return None
    # Only `pack` makes such bytes, so that the fields are what a tracker of some version put in.
    fields: dict[str, Any] = msgpack.unpackb(body, raw=False)
    return fields


def _hash(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_HASH_SIZE, person=b"ckpt-tracker").digest()


def numbers(data: bytes, columns: int = 0) -> U64:
    """The array that `pack` made bytes of; shape (n, columns) when columns are given."""
    array = np.frombuffer(data, "<u8").astype(np.uint64)
    return array.reshape(-1, columns) if columns else array


def same_rows(mm: MmAccess, ranges: U64, keys: list[str]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """For each row of `mm.ranges` whether exactly this mapping was there in the last round."""
    before = {(start, end, key) for (start, end), key in zip(ranges.tolist(), keys, strict=True)}
    now = zip(mm.ranges.tolist(), mm.vma_keys, strict=True)
    return np.fromiter(((start, end, key) in before for (start, end), key in now), np.bool_, len(mm.ranges))
