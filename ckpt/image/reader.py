"""Reads one image alone: its records, maps and frames as they are stored. Ancestors are `ckpt.chain`'s."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import blake3
import numpy as np
import numpy.typing as npt
import xxhash

from ckpt.errors import ImageError
from ckpt.image.codec import decode_record
from ckpt.image.layout import (
    FRAME_KINDS,
    HASHES,
    HEADER,
    HEADER_DTYPE,
    INDEX,
    PAGEMAP,
    PAGES,
    PROLOGUE,
    RAW,
    RECORD,
    TRAILER,
    XOR_ZSTD,
    FrameHeader,
    check_prologue,
    parse_header,
    parse_trailer,
)
from ckpt.image.sources import FileSource, Source
from ckpt.image.spacemap import ROW_SIZE, Chunk, SpaceMap, parse_chunk, parse_map
from ckpt.pages.compress import decompress, decompress_into
from ckpt.pages.hashes import HASH_SIZE
from ckpt.records.base import Record
from ckpt.records.image import ImageHeader, Statistics
from ckpt.records.runs import PAGE_SIZE, U8, XOR, PageRuns

I64 = npt.NDArray[np.int64]
KINDS = ("pre-dump", "dump", "merged")


@dataclass(frozen=True, slots=True)
class Index:
    """Where the frames of an image are: their packed headers, and each one's offset in the file."""

    headers: bytes
    offsets: I64
    kinds: U8
    codecs: U8
    depths: npt.NDArray[np.uint16]
    plain_sizes: I64

    @classmethod
    def of(cls, headers: bytes) -> Index:
        table = np.frombuffer(headers, HEADER_DTYPE)
        sizes = table["stored_size"].astype(np.int64) + HEADER.size
        offsets = np.cumsum(sizes) - sizes + PROLOGUE.size
        return cls(
            headers, offsets, table["kind"], table["codec"], table["depth"], table["plain_size"].astype(np.int64)
        )

    @property
    def end(self) -> int:
        """Where the first byte after the frames stands."""
        if not len(self.offsets):
            return PROLOGUE.size
        return int(self.offsets[-1]) + HEADER.size + self.header(len(self.offsets) - 1).stored_size

    def header(self, frame: int) -> FrameHeader:
        return parse_header(self.headers[frame * HEADER.size : (frame + 1) * HEADER.size], f"index row {frame}")

    def of_kind(self, kind: int) -> list[int]:
        found: list[int] = np.flatnonzero(self.kinds == kind).tolist()
        return found


class ImageReader:
    """One image. Everything that is read is checked; whatever is wrong is an ImageError."""

    def __init__(self, source: Source, index: Index | None = None) -> None:
        self.source = source
        self.name = source.name
        self.index = read_index(source) if index is None else index
        self._records: list[Record] | None = None
        self._maps: dict[str, SpaceMap] | None = None
        self._bases: dict[str, str] = {}
        self._order: dict[str, tuple[I64, npt.NDArray[np.uint32]]] = {}
        kinds = self.index.kinds
        if not len(kinds) or kinds[0] != RECORD or kinds[-1] != RECORD:
            raise ImageError(f"{self.name} does not begin with a header and end with statistics")
        header, statistics = self.record(0), self.record(len(kinds) - 1)
        if not isinstance(header, ImageHeader) or not isinstance(statistics, Statistics):
            raise ImageError(f"{self.name} does not begin with a header and end with statistics")
        self.header = _checked_header(header, self.name)
        self.statistics = statistics

    @classmethod
    def open(cls, path: Path) -> ImageReader:
        return cls(FileSource(path))

    def close(self) -> None:
        self.source.close()

    # ------------------------------------------------------------ frames

    def stored(self, frame: int) -> tuple[FrameHeader, memoryview]:
        """A frame's header and its payload as it is stored, checked."""
        header = self.index.header(frame)
        where = self.where(frame)
        data = self.source.read_at(int(self.index.offsets[frame]), HEADER.size + header.stored_size)
        if data[: HEADER.size] != self.index.headers[frame * HEADER.size : (frame + 1) * HEADER.size]:
            raise ImageError(f"{where} has a damaged header")
        payload = memoryview(data)[HEADER.size :]
        if xxhash.xxh3_64_intdigest(payload) != header.stored_sum:
            raise ImageError(f"{where} is damaged")
        return header, payload

    def where(self, frame: int) -> str:
        return f"{self.name}: {FRAME_KINDS.get(int(self.index.kinds[frame]), 'unknown')} frame {frame}"

    def unpack(self, frame: int, header: FrameHeader, payload: memoryview) -> bytes:
        """The bytes after decompression; of an XOR frame without its parent, not yet verified."""
        if header.codec == RAW:
            return bytes(payload)
        try:
            return decompress(payload, header.plain_size)
        except ValueError as error:
            raise ImageError(f"{self.where(frame)} cannot be decompressed: {error}") from error

    def unpack_into(self, frame: int, header: FrameHeader, payload: memoryview, out: U8) -> None:
        """`unpack` into the array `out`, shape (n, 4096), of the plain size."""
        flat = out.reshape(-1)
        if header.codec == RAW:
            flat[:] = np.frombuffer(payload, np.uint8)
            return
        try:
            decompress_into(payload, flat.data)
        except ValueError as error:
            raise ImageError(f"{self.where(frame)} cannot be decompressed: {error}") from error

    def check_plain(self, frame: int, header: FrameHeader, plain: bytes | memoryview) -> None:
        if blake3.blake3(plain).digest() != header.plain_hash:
            raise ImageError(f"{self.where(frame)} does not have the content that it had when it was written")

    def plain(self, frame: int) -> bytes:
        """The verified bytes of a frame without XOR."""
        header, payload = self.stored(frame)
        plain = self.unpack(frame, header, payload)
        self.check_plain(frame, header, plain)
        return plain

    # ------------------------------------------------------------ records

    def record(self, frame: int) -> Record:
        return decode_record(self.plain(frame), self.where(frame))

    def records(self, name: str | None = None) -> Sequence[Record]:
        """The records of one kind, or all, in the order in which they were added."""
        if self._records is None:
            self._records = [self.record(frame) for frame in self.index.of_kind(RECORD)]
        if name is None:
            return tuple(self._records)
        return tuple([record for record in self._records if name == record.RECORD_NAME])

    # ------------------------------------------------------------ maps

    @property
    def maps(self) -> dict[str, SpaceMap]:
        """The map of each space, in the order in which they were begun."""
        if self._maps is None:
            self._maps = self._read_maps()
        return self._maps

    def base_of(self, key: str) -> str:
        """The space of the parent that PARENT and XOR pages of this one refer to."""
        return self._bases.get(key, key) if key in self.maps else key

    def _read_maps(self) -> dict[str, SpaceMap]:
        parts = self._chunks(PAGEMAP, ROW_SIZE)
        maps = {
            key: _concatenated([parse_map(chunk.rows, chunk.body) for chunk in rest]) for key, rest in parts.items()
        }
        for key, rest in parts.items():
            if rest[0].base:
                self._bases[key] = rest[0].base
        pages = np.where(self.index.kinds == PAGES, self.index.plain_sizes // PAGE_SIZE, 0)
        used = np.zeros(len(pages), np.int64)
        for key, table in maps.items():
            table.check(self.header.parent is not None, pages, f"{self.name}: the map of {key}")
            if (self.index.codecs[table.frame[table.kind == XOR]] != XOR_ZSTD).any():
                raise ImageError(f"{self.name}: the map of {key} has XOR pages in a frame without XOR")
            used += self._arrange(key, table, pages)
        # Spaces may share a frame, as forked tasks do; what an XOR is undone with depends on the space.
        wrong = ((used > 0) != (pages > 0)) | ((used > 1) & (self.index.codecs == XOR_ZSTD))
        if wrong.any():
            raise ImageError(f"{self.name}: frame {int(np.argmax(wrong))} belongs to no space, or to too many")
        return maps

    def _arrange(self, key: str, table: SpaceMap, pages: I64) -> I64:
        """Note which rows each frame has, slot by slot; gives 1 for each frame of this space."""
        rows = np.flatnonzero(table.stored())
        rows = rows[np.lexsort((table.offset[rows], table.frame[rows]))]
        frames = table.frame[rows]
        self._order[key] = (rows, frames)
        used = np.zeros(len(pages), np.int64)
        used[frames] = 1
        begin = table.offset[rows].astype(np.int64)
        end = begin + table.nr_pages[rows].astype(np.int64)
        first = np.concatenate([[True], frames[1:] != frames[:-1]])[: len(rows)]
        last = np.concatenate([frames[1:] != frames[:-1], [True]])[-len(rows) :] if len(rows) else first
        whole = (begin[first] == 0).all() and (end[last] == pages[frames[last]]).all()
        if not whole or (begin[1:] != end[:-1])[~first[1:]].any():
            raise ImageError(f"{self.name}: the map of {key} does not name each page of its frames once")
        return used

    def _chunks(self, kind: int, row_size: int) -> dict[str, list[Chunk]]:
        found: dict[str, list[Chunk]] = {}
        totals: dict[str, int] = {}
        for frame in self.index.of_kind(kind):
            chunk = parse_chunk(self.plain(frame), row_size, self.where(frame))
            parts = found.setdefault(chunk.key, [])
            if chunk.number != len(parts) or totals.setdefault(chunk.key, chunk.chunks) != chunk.chunks:
                raise ImageError(f"{self.where(frame)} is out of order")
            baseless = kind == HASHES or self.header.parent is None
            if chunk.base != (parts[0].base if parts else chunk.base) or (chunk.base and baseless):
                raise ImageError(f"{self.where(frame)} names a base that it cannot have")
            parts.append(chunk)
        for key, parts in found.items():
            if len(parts) != totals[key]:
                raise ImageError(f"{self.name}: the {FRAME_KINDS[kind]} of {key} is incomplete")
        return found

    def frame_pages(self, key: str, frame: int) -> tuple[npt.NDArray[np.uint64], U8]:
        """The page numbers and kinds of one page frame, slot by slot."""
        table = self.maps[key]
        rows, frames = self._order[key]
        mine = rows[np.searchsorted(frames, frame, "left") : np.searchsorted(frames, frame, "right")]
        runs = PageRuns(table.start[mine], table.nr_pages[mine], table.kind[mine])
        return runs.pages(), np.repeat(runs.kind, runs.nr_pages.astype(np.int64))

    def hashes(self) -> dict[str, U8]:
        """For each space that was hashed: the hashes of its stored pages, ascending; shape (n, 16)."""
        parts = self._chunks(HASHES, HASH_SIZE)
        found: dict[str, U8] = {}
        for key, rest in parts.items():
            column = np.frombuffer(b"".join([chunk.body for chunk in rest]), np.uint8).reshape(-1, HASH_SIZE)
            table = self.maps.get(key)
            if table is None or len(column) != int(table.nr_pages[table.stored()].sum()):
                raise ImageError(f"{self.name}: the page hashes of {key} do not fit its map")
            found[key] = column
        return found

    # ------------------------------------------------------------ everything

    def check_stored(self, frame: int) -> int:
        """Check one frame as far as the image alone allows; gives its stored bytes."""
        header, payload = self.stored(frame)
        plain = self.unpack(frame, header, payload)
        if header.codec != XOR_ZSTD:
            self.check_plain(frame, header, plain)
        return header.stored_size


def read_index(source: Source) -> Index:
    """The index from the end of an image."""
    name = source.name
    check_prologue(source.read_at(0, min(source.size, PROLOGUE.size)), name)
    tail = min(source.size, TRAILER.size)
    offset, frames = parse_trailer(source.read_at(source.size - tail, tail), source.size, name)
    header = parse_header(source.read_at(offset, HEADER.size), f"{name}: the index")
    room = source.size - TRAILER.size - offset - HEADER.size
    fits = header.kind == INDEX and header.sequence == frames and header.plain_size == frames * HEADER.size
    if not fits or header.stored_size != room:
        raise ImageError(f"{name}: the index does not fit the trailer")
    payload = source.read_at(offset + HEADER.size, room)
    if xxhash.xxh3_64_intdigest(payload) != header.stored_sum or blake3.blake3(payload).digest() != header.plain_hash:
        raise ImageError(f"{name}: the index is damaged")
    index = Index.of(payload)
    sequence = np.frombuffer(payload, HEADER_DTYPE)["sequence"]
    if (index.kinds == INDEX).any() or index.end != offset or (sequence != np.arange(frames, dtype=np.uint64)).any():
        raise ImageError(f"{name}: the index does not describe the frames before it")
    return index


def _concatenated(parts: list[SpaceMap]) -> SpaceMap:
    if len(parts) == 1:
        return parts[0]
    return SpaceMap(
        np.concatenate([part.start for part in parts]),
        np.concatenate([part.nr_pages for part in parts]),
        np.concatenate([part.kind for part in parts]),
        np.concatenate([part.frame for part in parts]),
        np.concatenate([part.offset for part in parts]),
    )


def _checked_header(header: ImageHeader, name: str) -> ImageHeader:
    if header.kind not in KINDS:
        raise ImageError(f"{name} is of unknown kind {header.kind!r:.40}")
    if header.page_size != PAGE_SIZE:
        raise ImageError(f"{name} has pages of {header.page_size} bytes; this ckpt reads {PAGE_SIZE}")
    sizes = (len(header.image_id), len(header.chain_id), len(header.parent or bytes(16)))
    if sizes != (16, 16, 16) or header.round < 1:
        raise ImageError(f"{name} has an identity or a round number that cannot be")
    return header
