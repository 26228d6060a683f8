"""Page runs: consecutive pages of one kind, as numpy columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]
U8 = npt.NDArray[np.uint8]

PAGE_SIZE = 4096

T = TypeVar("T", bound=np.generic)

# The kind of a page in an image. A page that no run covers is absent: a hole.
DATA = 1  # its bytes are in this image
XOR = 2  # its bytes, XORed with the parent's, are in this image (only inside an image, never asked for)
PARENT = 3  # as in the parent
ZERO = 4  # all zero
GUARD = 5  # a guard page (MADV_GUARD_INSTALL)

KIND_NAMES = {DATA: "data", XOR: "xor", PARENT: "parent", ZERO: "zero", GUARD: "guard"}


@dataclass(frozen=True, slots=True)
class PageRuns:
    """Sorted, disjoint runs: `start` (page number = address / 4096), `nr_pages`, `kind`; equal lengths."""

    start: U64
    nr_pages: U64
    kind: U8

    @property
    def total(self) -> int:
        """The number of pages in all runs."""
        return int(self.nr_pages.sum())

    def count(self, kind: int) -> int:
        """The number of pages of one kind."""
        return int(self.nr_pages[self.kind == kind].sum())

    def of(self, kind: int) -> PageRuns:
        """Only the runs of one kind."""
        keep = self.kind == kind
        return PageRuns(self.start[keep], self.nr_pages[keep], self.kind[keep])

    def pages(self) -> U64:
        """Every page number, ascending; shape (total,)."""
        return expand(self.start, self.nr_pages)

    @classmethod
    def empty(cls) -> PageRuns:
        return cls(np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.uint8))

    @classmethod
    def from_pages(cls, pages: U64, kind: int | U8) -> PageRuns:
        """Runs from sorted, unique page numbers and their kind (one, or one for each page)."""
        if not len(pages):
            return cls.empty()
        kinds = np.full(len(pages), kind, np.uint8) if isinstance(kind, int) else kind
        cut = np.flatnonzero((np.diff(pages) != 1) | (np.diff(kinds) != 0)) + 1
        first = np.concatenate([[0], cut]).astype(np.int64)
        length = np.diff(np.concatenate([first, [len(pages)]]))
        return cls(pages[first].astype(np.uint64), length.astype(np.uint64), kinds[first].astype(np.uint8))


def distinct(values: npt.NDArray[T]) -> npt.NDArray[T]:
    """The values, ascending, each once. numpy.unique does the same, and imports numpy.ma for it: tens of ms."""
    ordered = np.sort(values)
    result: npt.NDArray[T] = ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(ordered)]]
    return result


def pieces(pages: U64) -> Iterator[tuple[int, int, int]]:
    """Contiguous pieces of ascending page numbers: (address, length, offset among the pages' bytes), all in bytes."""
    if not len(pages):
        return
    first = np.concatenate([[0], np.flatnonzero(np.diff(pages) != 1) + 1])
    for at, nr in zip(first.tolist(), np.diff(first, append=len(pages)).tolist(), strict=True):
        yield int(pages[at]) * PAGE_SIZE, nr * PAGE_SIZE, at * PAGE_SIZE


def expand(start: U64, nr_pages: U64) -> U64:
    """Every page number of the runs, in order; shape (sum of nr_pages,)."""
    total = int(nr_pages.sum())
    if not total:
        return np.empty(0, np.uint64)
    ends = np.cumsum(nr_pages)
    offset = np.repeat(start - (ends - nr_pages), nr_pages.astype(np.int64))
    return (offset + np.arange(total, dtype=np.uint64)).astype(np.uint64)
