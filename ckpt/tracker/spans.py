"""Arithmetic on spans: sorted, disjoint half-open intervals as numpy arrays of shape (n, 2)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ckpt.kernel.pagemap import contiguous
from ckpt.records.runs import U64

EMPTY: U64 = np.empty((0, 2), np.uint64)


def _combined(a: U64, b: U64, want_b: bool) -> U64:
    """The points that are in `a` and, as wanted, in `b` or not in it."""
    if not len(a) or (want_b and not len(b)):
        return EMPTY
    points = np.concatenate([a[:, 0], a[:, 1], b[:, 0], b[:, 1]])
    in_a = np.zeros(len(points), np.int8)
    in_b = np.zeros(len(points), np.int8)
    in_a[: len(a)], in_a[len(a) : 2 * len(a)] = 1, -1
    in_b[2 * len(a) : 2 * len(a) + len(b)], in_b[2 * len(a) + len(b) :] = 1, -1
    order = np.argsort(points, kind="stable")
    points = points[order]
    inside_a = np.cumsum(in_a[order], dtype=np.int64) > 0
    inside_b = np.cumsum(in_b[order], dtype=np.int64) > 0
    keep = (inside_a & (inside_b == want_b))[:-1] & (points[1:] > points[:-1])
    return contiguous(np.stack([points[:-1][keep], points[1:][keep]], axis=1))


def minus(a: U64, b: U64) -> U64:
    """`a` without `b`."""
    return _combined(a, b, False)


def both(a: U64, b: U64) -> U64:
    """What lies in `a` and in `b`."""
    return _combined(a, b, True)


def of_pages(pages: U64) -> U64:
    """Spans of sorted, unique page numbers."""
    return contiguous(np.stack([pages, pages + np.uint64(1)], axis=1)) if len(pages) else EMPTY


def anonymous(ranges: U64, keys: Sequence[str]) -> U64:
    """The rows that are anonymous private mappings, by their vma_keys."""
    return ranges[anonymous_rows(tuple(keys))] if len(ranges) else EMPTY


@lru_cache(maxsize=64)
def anonymous_rows(keys: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    """For each of the vma_keys whether it is an anonymous mapping's. Remembered, as the layouts are."""
    found = np.fromiter((key.startswith("anon") for key in keys), np.bool_, len(keys))
    found.setflags(write=False)
    return found
