"""Where every page of one space is, through all the layers of a chain: one table instead of a search layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ckpt.errors import ImageError
from ckpt.image.spacemap import SpaceMap
from ckpt.records.runs import DATA, PARENT, U8, U64, XOR, PageRuns

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Places:
    """Where some pages are; equal lengths. Kind 0 is an absent page."""

    kind: U8
    layer: I64
    frame: I64
    slot: I64


@dataclass(frozen=True, slots=True)
class Resolved:
    """Sorted, disjoint rows of kinds DATA, XOR, ZERO and GUARD; `offset` is the first page's slot in its frame."""

    start: U64
    nr_pages: U64
    kind: U8
    layer: I64
    frame: I64
    offset: I64

    @classmethod
    def of(cls, tables: Sequence[SpaceMap | None], names: Sequence[str], key: str) -> Resolved:
        """From the maps of the layers, newest first. ImageError when one refers to what its parent does not have."""
        parts: list[Resolved] = []
        left: SpaceMap | None = None  # what is still looked for: PARENT rows of the layer above
        for layer, table in enumerate(tables):
            if left is None:
                found = table if table is not None else SpaceMap.join([])
            else:
                found = _covered(table if table is not None else SpaceMap.join([]), left)
                if int(found.nr_pages.sum()) != int(left.nr_pages.sum()):
                    raise ImageError(f"{names[layer - 1]} refers to pages of {key} that its parent does not have")
            here = found.kind != PARENT
            parts.append(cls._rows(_taken(found, here), layer))
            left = _taken(found, ~here)
            if not len(left):
                break
        else:
            raise ImageError(f"{names[-1]} refers to pages of {key} that its parent does not have")
        return parts[0] if len(parts) == 1 else cls._joined(parts)

    @classmethod
    def _rows(cls, table: SpaceMap, layer: int) -> Resolved:
        depth = np.full(len(table), layer, np.int64)
        frame, offset = table.frame.astype(np.int64), table.offset.astype(np.int64)
        return cls(table.start, table.nr_pages, table.kind, depth, frame, offset)

    @classmethod
    def _joined(cls, parts: Sequence[Resolved]) -> Resolved:
        start = np.concatenate([part.start for part in parts])
        order = np.argsort(start, kind="stable")
        return cls(
            start[order],
            np.concatenate([part.nr_pages for part in parts])[order],
            np.concatenate([part.kind for part in parts])[order],
            np.concatenate([part.layer for part in parts])[order],
            np.concatenate([part.frame for part in parts])[order],
            np.concatenate([part.offset for part in parts])[order],
        )

    def runs(self) -> PageRuns:
        """The populated map: DATA, ZERO and GUARD."""
        kind = np.where(self.kind == XOR, DATA, self.kind).astype(np.uint8)
        return coalesced(self.start, self.nr_pages, kind)

    def locate(self, pages: U64) -> Places:
        if not len(self.start):
            none = np.zeros(len(pages), np.int64)
            return Places(none.astype(np.uint8), none, none, none)
        row = np.maximum(np.searchsorted(self.start, pages, "right").astype(np.int64) - 1, 0)
        inside = (pages >= self.start[row]) & (pages < self.start[row] + self.nr_pages[row])
        kind = np.where(inside, self.kind[row], 0).astype(np.uint8)
        slot = self.offset[row] + (pages - self.start[row]).astype(np.int64)
        return Places(kind, self.layer[row], self.frame[row], slot)

    def stored(self) -> Resolved:
        """Only the rows with bytes, those of one frame side by side, frames in the order of their first pages."""
        keep = np.flatnonzero((self.kind == DATA) | (self.kind == XOR))
        identity = (self.layer[keep] << 32) | self.frame[keep]
        _, first, inverse = np.unique(identity, return_index=True, return_inverse=True)
        keep = keep[np.lexsort((self.offset[keep], first[inverse]))]
        return Resolved(
            self.start[keep], self.nr_pages[keep], self.kind[keep],
            self.layer[keep], self.frame[keep], self.offset[keep],
        )  # fmt: skip


def _taken(table: SpaceMap, keep: npt.NDArray[np.bool_]) -> SpaceMap:
    return SpaceMap(table.start[keep], table.nr_pages[keep], table.kind[keep], table.frame[keep], table.offset[keep])


def _covered(table: SpaceMap, wanted: SpaceMap) -> SpaceMap:
    """The rows of `table` cut to what `wanted` covers."""
    end, wanted_end = table.start + table.nr_pages, wanted.start + wanted.nr_pages
    first = np.searchsorted(end, wanted.start, "right")
    count = np.maximum(np.searchsorted(table.start, wanted_end, "left") - first, 0)
    which = np.repeat(np.arange(len(wanted)), count)
    row = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count) + first[which]
    start = np.maximum(table.start[row], wanted.start[which])
    nr_pages = np.minimum(end[row], wanted_end[which]) - start
    kind, frame = table.kind[row], table.frame[row]
    has_bytes = (kind == DATA) | (kind == XOR)
    offset = np.where(has_bytes, table.offset[row] + (start - table.start[row]), 0).astype(np.uint16)
    return SpaceMap(start, nr_pages, kind, frame, offset)


def coalesced(start: U64, nr: U64, kind: U8) -> PageRuns:
    """Sorted runs, those of one kind that touch joined."""
    if len(start) < 2:
        return PageRuns(start, nr, kind)
    apart = (start[1:] != start[:-1] + nr[:-1]) | (kind[1:] != kind[:-1])
    first = np.flatnonzero(np.concatenate([[True], apart]))
    return PageRuns(start[first], np.add.reduceat(nr, first).astype(np.uint64), kind[first])
