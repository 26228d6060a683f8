"""The map of one space in one image: each page's kind and where its bytes are; columns, no loops."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ckpt.errors import ImageError
from ckpt.image.layout import MAX_KEY
from ckpt.records.runs import DATA, GUARD, U8, U64, XOR, PageRuns, expand

U16 = npt.NDArray[np.uint16]
U32 = npt.NDArray[np.uint32]
I64 = npt.NDArray[np.int64]

CHUNK = struct.Struct("<HHIIQ")  # bytes of the key, of the base, this chunk, chunks, rows; key, base, columns follow
ROWS_PER_CHUNK = 1 << 18
HASHES_PER_CHUNK = 1 << 18
MAX_PAGE = 1 << 52

COLUMNS: tuple[tuple[str, str], ...] = (
    ("start", "<u8"),
    ("nr_pages", "<u8"),
    ("kind", "<u1"),
    ("frame", "<u4"),
    ("offset", "<u2"),
)
ROW_SIZE = sum(np.dtype(kind).itemsize for _, kind in COLUMNS)


@dataclass(frozen=True, slots=True)
class Location:
    """Where some pages are in one image; equal lengths. Kind 0 is an absent page."""

    kind: U8
    frame: U32
    slot: I64


@dataclass(frozen=True, slots=True)
class SpaceMap:
    """Sorted, disjoint rows. `frame` is a page frame's sequence number, `offset` the first page's slot."""

    start: U64
    nr_pages: U64
    kind: U8
    frame: U32
    offset: U16

    def __len__(self) -> int:
        return len(self.start)

    @classmethod
    def join(cls, parts: Sequence[SpaceMap]) -> SpaceMap:
        """One map from several, sorted by page, neighbours that belong together made one row."""
        if not parts:
            empty = np.empty(0, np.uint64)
            return cls(empty, empty, np.empty(0, np.uint8), np.empty(0, np.uint32), np.empty(0, np.uint16))
        start = np.concatenate([part.start for part in parts])
        order = np.argsort(start, kind="stable")
        start = start[order]
        nr = np.concatenate([part.nr_pages for part in parts])[order]
        kind = np.concatenate([part.kind for part in parts])[order]
        frame = np.concatenate([part.frame for part in parts])[order]
        offset = np.concatenate([part.offset for part in parts])[order]
        if len(start) < 2:
            return cls(start, nr, kind, frame, offset)
        stored = (kind == DATA) | (kind == XOR)
        together = (start[1:] == start[:-1] + nr[:-1]) & (kind[1:] == kind[:-1])
        together &= ~stored[1:] | (
            (frame[1:] == frame[:-1]) & (offset[1:].astype(np.uint64) == offset[:-1].astype(np.uint64) + nr[:-1])
        )
        first = np.flatnonzero(np.concatenate([[True], ~together]))
        merged = np.add.reduceat(nr, first).astype(np.uint64)
        return cls(start[first], merged, kind[first], frame[first], offset[first])

    @classmethod
    def plain(cls, runs: PageRuns) -> SpaceMap:
        """Rows without bytes: PARENT, ZERO, GUARD."""
        n = len(runs.start)
        return cls(runs.start, runs.nr_pages, runs.kind, np.zeros(n, np.uint32), np.zeros(n, np.uint16))

    @classmethod
    def of_frames(cls, frames: Sequence[tuple[U64, U8, int]]) -> SpaceMap:
        """The rows of some frames: (pages in the order in which the frame holds them, their kinds, its number)."""
        pages = np.concatenate([part for part, _, _ in frames])
        kinds = np.concatenate([part for _, part, _ in frames])
        sizes = np.array([len(part) for part, _, _ in frames], np.int64)
        number = np.repeat(np.array([frame for _, _, frame in frames], np.uint32), sizes)
        slot = np.arange(len(pages)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        apart = (np.diff(pages) != 1) | (np.diff(kinds) != 0) | (np.diff(number) != 0)
        first = np.flatnonzero(np.concatenate([[True], apart]))
        length = np.diff(first, append=len(pages)).astype(np.uint64)
        return cls(pages[first], length, kinds[first], number[first], slot[first].astype(np.uint16))

    def runs(self) -> PageRuns:
        """The rows as page runs, kinds as they are in the image."""
        return PageRuns(self.start, self.nr_pages, self.kind)

    def stored(self) -> npt.NDArray[np.bool_]:
        """The rows whose bytes are in this image."""
        result: npt.NDArray[np.bool_] = (self.kind == DATA) | (self.kind == XOR)
        return result

    def row_of(self, pages: U64) -> I64:
        """The row that covers each page; -1 where none does."""
        if not len(self.start):
            return np.full(len(pages), -1, np.int64)
        row = np.searchsorted(self.start, pages, "right").astype(np.int64) - 1
        inside = (row >= 0) & (pages < self.start[row] + self.nr_pages[row])
        return np.where(inside, row, -1)

    def locate(self, pages: U64) -> Location:
        row = self.row_of(pages)
        if not len(self.start):
            none = np.zeros(len(pages), np.uint8)
            return Location(none, none.astype(np.uint32), none.astype(np.int64))
        kind = np.where(row >= 0, self.kind[row], 0).astype(np.uint8)
        slot = self.offset[row].astype(np.int64) + (pages - self.start[row]).astype(np.int64)
        return Location(kind, self.frame[row], slot)

    def rank(self, pages: U64) -> I64:
        """How many stored pages stand before each of these stored pages: its place in the hash column."""
        counts = np.where(self.stored(), self.nr_pages, 0).astype(np.int64)
        before = np.cumsum(counts) - counts
        row = self.row_of(pages)
        return before[row] + (pages - self.start[row]).astype(np.int64)

    def stored_pages(self) -> U64:
        """Every page whose bytes are in this image, ascending."""
        keep = self.stored()
        return expand(self.start[keep], self.nr_pages[keep])

    def check(self, has_parent: bool, frame_pages: I64, where: str) -> None:
        """Refuse rows that cannot be; `frame_pages`: how many pages each frame has (0: no page frame)."""
        if not len(self.start):
            return
        fits = (self.start < MAX_PAGE).all() and (self.nr_pages < MAX_PAGE).all() and self.nr_pages.all()
        if not fits or (self.start[1:] < self.start[:-1] + self.nr_pages[:-1]).any():
            raise ImageError(f"{where} holds runs that are empty, out of order or overlap")
        if ((self.kind < DATA) | (self.kind > GUARD)).any():
            raise ImageError(f"{where} holds pages of an unknown kind")
        if not has_parent and ((self.kind == XOR) | (self.kind == 3)).any():
            raise ImageError(f"{where} refers to a parent, but the image has none")
        keep = self.stored()
        frame = self.frame[keep].astype(np.int64)
        if (frame >= len(frame_pages)).any():
            raise ImageError(f"{where} refers to a frame that the image does not have")
        if (self.offset[keep].astype(np.uint64) + self.nr_pages[keep] > frame_pages[frame].astype(np.uint64)).any():
            raise ImageError(f"{where} refers to pages outside their frame")


def chunks_of_map(key: str, table: SpaceMap, base: str = "") -> Iterator[bytes]:
    """The payloads of the pagemap frames of one space; `base` as in FORMAT.md."""
    columns = [getattr(table, name).astype(kind) for name, kind in COLUMNS]
    chunks = max(1, -(-len(table) // ROWS_PER_CHUNK))
    for chunk in range(chunks):
        at = slice(chunk * ROWS_PER_CHUNK, (chunk + 1) * ROWS_PER_CHUNK)
        rows = len(columns[0][at])
        yield _chunk(key, base, chunk, chunks, rows) + b"".join([column[at].tobytes() for column in columns])


def chunks_of_hashes(key: str, hashes: U8) -> Iterator[bytes]:
    """The payloads of the hash frames of one space."""
    chunks = max(1, -(-len(hashes) // HASHES_PER_CHUNK))
    for chunk in range(chunks):
        part = hashes[chunk * HASHES_PER_CHUNK : (chunk + 1) * HASHES_PER_CHUNK]
        yield _chunk(key, "", chunk, chunks, len(part)) + part.tobytes()


def _chunk(key: str, base: str, chunk: int, chunks: int, rows: int) -> bytes:
    name, other = (text.encode("utf-8", "surrogateescape") for text in (key, base))
    return CHUNK.pack(len(name), len(other), chunk, chunks, rows) + name + other


@dataclass(frozen=True, slots=True)
class Chunk:
    """A pagemap or hash payload: which part of what it is, and its rows' columns."""

    key: str
    base: str
    number: int
    chunks: int
    rows: int
    body: bytes


def parse_chunk(data: bytes, row_size: int, where: str) -> Chunk:
    """A pagemap or hash payload."""
    if len(data) < CHUNK.size:
        raise ImageError(f"{where} is too short")
    key_size, base_size, chunk, chunks, rows = CHUNK.unpack_from(data)
    begin, end = CHUNK.size + key_size, CHUNK.size + key_size + base_size
    body = data[end:]
    if max(key_size, base_size) > MAX_KEY or chunk >= chunks or len(body) != rows * row_size:
        raise ImageError(f"{where} does not hold the rows that it names")
    key, base = (part.decode("utf-8", "surrogateescape") for part in (data[CHUNK.size : begin], data[begin:end]))
    return Chunk(key, base, chunk, chunks, rows, body)


def parse_map(rows: int, body: bytes) -> SpaceMap:
    """The columns of one pagemap chunk, not yet checked."""
    columns: list[npt.NDArray[np.generic]] = []
    at = 0
    for _, kind in COLUMNS:
        columns.append(np.frombuffer(body, kind, rows, at))
        at += rows * np.dtype(kind).itemsize
    return SpaceMap(*columns)  # type: ignore[arg-type]
