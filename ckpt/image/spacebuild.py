"""What became of the pages of one space while its image is written; at the end, its map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ckpt.errors import ImageWriteError
from ckpt.image.encode import Encoded
from ckpt.image.spacemap import SpaceMap
from ckpt.pages.hashes import HASH_SIZE
from ckpt.records.runs import DATA, GUARD, PARENT, U8, U64, ZERO, PageRuns, distinct

_SETTLE = 1024  # frames, or pieces without bytes, whose pages are kept before they are made rows


class SpaceBuild:
    """Collects what was written; runs, not pages, so that it stays small."""

    def __init__(self, key: str, runs: PageRuns, hashing: bool, base: str = "") -> None:
        self.key = key
        self.base = base
        self.closed = False
        wanted = runs.of(DATA)
        # Kind 0, so that DATA runs that touch become one row whatever frames they will lie in.
        anonymous = PageRuns(wanted.start, wanted.nr_pages, np.zeros(len(wanted.start), np.uint8))
        self._expected = SpaceMap.join([SpaceMap.plain(anonymous)])
        self._wanted = runs.count(DATA)
        self._rows = [SpaceMap.plain(runs.of(kind)) for kind in (PARENT, ZERO, GUARD)]
        self._taken: list[SpaceMap] = []
        self._frames: list[tuple[U64, U8, int]] = []
        self._bare: list[tuple[U64, U8]] = []
        self._hashes: list[tuple[U64, U8]] | None = [] if hashing else None

    def took(self, encoded: Encoded, numbers: Sequence[int]) -> None:
        """The frames are in the image under these numbers; the other pages need no bytes."""
        for part, frame in zip(encoded.frames, numbers, strict=True):
            self.took_frame(part.pages, part.kinds, frame, part.hashes)
        if len(encoded.pages):
            self._without_bytes(encoded.pages, encoded.kinds)

    def took_frame(self, pages: U64, kinds: U8, frame: int, hashes: U8 | None) -> None:
        """A frame holds exactly these pages."""
        self._frames.append((pages, kinds, frame))
        if len(self._frames) >= _SETTLE:
            self._settle()
        if self._hashes is not None and hashes is not None:
            self._hashes.append((pages, hashes))

    def dropped(self, pages: U64) -> None:
        """These pages will not come: they are absent from the image."""
        pages = distinct(pages)
        self._without_bytes(pages, np.zeros(len(pages), np.uint8))

    def _without_bytes(self, pages: U64, kinds: U8) -> None:
        self._bare.append((pages, kinds))
        if len(self._bare) >= _SETTLE:
            self._settle()

    def _settle(self) -> None:
        """Make rows of what is kept page by page."""
        if self._frames:
            self._taken.append(SpaceMap.of_frames(self._frames))
            self._frames.clear()
        if self._bare:
            pages = np.concatenate([part for part, _ in self._bare])
            kinds = np.concatenate([part for _, part in self._bare])
            self._taken.append(SpaceMap.plain(PageRuns.from_pages(pages, kinds)))
            self._bare.clear()

    def result(self) -> tuple[SpaceMap, U8 | None]:
        """The map, and the hashes of its stored pages, ascending; every DATA page is accounted for."""
        self._settle()
        taken = SpaceMap.join(self._taken)
        if (taken.start[1:] < taken.start[:-1] + taken.nr_pages[:-1]).any():
            raise ImageWriteError(f"space {self.key}: a page was put twice")
        first = self._expected.row_of(taken.start)
        last = self._expected.row_of(taken.start + taken.nr_pages - np.uint64(1))
        # Runs that touch are one row of `_expected`, so a taken row lies in one of them.
        if len(taken) and ((first < 0).any() or (first != last).any()):
            raise ImageWriteError(f"space {self.key}: a page was put that is not in its map")
        missing = self._wanted - int(taken.nr_pages.sum())
        if missing:
            raise ImageWriteError(f"space {self.key}: {missing} pages were neither put nor dropped")
        keep = taken.kind != 0
        kept = SpaceMap(
            taken.start[keep], taken.nr_pages[keep], taken.kind[keep], taken.frame[keep], taken.offset[keep]
        )
        table = SpaceMap.join([*self._rows, kept])
        if (table.start[1:] < table.start[:-1] + table.nr_pages[:-1]).any():
            raise ImageWriteError(f"space {self.key}: runs of its map overlap")
        return table, self._hash_column(table)

    def _hash_column(self, table: SpaceMap) -> U8 | None:
        if self._hashes is None:
            return None
        if not self._hashes:
            return np.empty((0, HASH_SIZE), np.uint8)
        pages = np.concatenate([part for part, _ in self._hashes])
        hashes = np.concatenate([part for _, part in self._hashes])
        column = np.empty_like(hashes)
        column[table.rank(pages)] = hashes
        return column
