"""Writes one image as one stream: records and page frames as they come, maps, statistics, index, trailer."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

import blake3
import numpy as np
import xxhash

from ckpt.errors import ImageWriteError
from ckpt.image.codec import encode_record
from ckpt.image.encode import Encoded, PageBase, as_frame, encode_frame
from ckpt.image.ending import pack_end
from ckpt.image.layout import (
    FRAME_PAGES,
    HASHES,
    HEADER,
    MAX_KEY,
    MAX_PLAIN,
    PAGEMAP,
    PAGES,
    RAW,
    RECORD,
    ZSTD,
    FrameHeader,
    pack_prologue,
)
from ckpt.image.sinks import Sink
from ckpt.image.spacebuild import SpaceBuild
from ckpt.image.spacemap import chunks_of_hashes, chunks_of_map
from ckpt.pages.compare import as_pages
from ckpt.pages.compress import DEFAULT_LEVEL, compress
from ckpt.records.base import Record
from ckpt.records.image import ImageHeader, Statistics
from ckpt.records.runs import DATA, PAGE_SIZE, PARENT, U64, XOR, ZERO, PageRuns

# Payloads below this are not worth a try with zstd.
SMALL = 256
# Each queued frame holds about 1 MiB at its peak: the plain pages, the base, their difference, the payload.
MAX_THREADS = 16


class ImageWriter:
    """One image on its way into a sink. Nothing is published before `finish`."""

    def __init__(
        self,
        sink: Sink,
        header: ImageHeader,
        *,
        base: PageBase | None = None,
        level: int = DEFAULT_LEVEL,
        hash_seed: int | None = None,
    ) -> None:
        self.header = header
        self._sink = sink
        self._base = base if header.parent is not None else None
        self._level = level
        self._hash_seed = hash_seed
        self._lock = threading.RLock()
        self._headers: list[bytes] = []
        self._position = 0
        self._spaces: dict[str, SpaceBuild] = {}
        workers = min(os.cpu_count() or 1, MAX_THREADS)
        self._queue = 3 * workers
        self._pool = ThreadPoolExecutor(workers, "ckpt-encode")
        self._pending: deque[tuple[SpaceBuild, bytearray, Future[Encoded]]] = deque()
        self._buffers: list[bytearray] = []
        self._plain = 0
        self._stored = 0
        self._done = False
        self._write(pack_prologue())
        self.add(header)

    # ------------------------------------------------------------ frames

    def _write(self, data: bytes) -> None:
        if self._done:
            raise ImageWriteError(f"{self._sink.name} is closed already")
        try:
            self._sink.write(data)
        except BaseException:
            # Taking the lock, emptying the queue and ending the threads is the caller's abort().
            self._sink.abort()
            raise
        self._position += len(data)

    def _frame(self, kind: int, codec: int, payload: bytes, plain_size: int, plain_hash: bytes, depth: int = 0) -> int:
        sequence = len(self._headers)
        header = FrameHeader(
            kind,
            codec,
            depth,
            len(payload),
            plain_size,
            sequence,
            xxhash.xxh3_64_intdigest(payload),
            plain_hash,
        ).pack()
        self._write(header)
        self._write(payload)
        self._headers.append(header)
        return sequence

    def _small(self, kind: int, plain: bytes) -> None:
        if len(plain) > MAX_PLAIN[kind]:
            raise ImageWriteError(f"{self._sink.name}: {len(plain)} bytes do not fit into one frame")
        codec, payload = RAW, plain
        if len(plain) >= SMALL:
            packed = compress(plain, self._level)
            if len(packed) < len(plain):
                codec, payload = ZSTD, packed
        self._frame(kind, codec, payload, len(plain), blake3.blake3(plain).digest())

    # ------------------------------------------------------------ what an image holds

    def add(self, record: Record) -> None:
        """Append a record."""
        packed = encode_record(record)
        with self._lock:
            self._small(RECORD, packed)

    def space(self, key: str, runs: PageRuns) -> SpaceBuilder:
        """Begin a space; the bytes of its DATA pages follow through the builder."""
        if not key or len(key.encode("utf-8", "surrogateescape")) > MAX_KEY:
            raise ImageWriteError(f"a space cannot be called {key!r:.60}")
        with self._lock:
            if key in self._spaces:
                raise ImageWriteError(f"space {key} is in the image already")
            if runs.count(XOR):
                raise ImageWriteError(f"space {key}: which pages are stored as XOR is the writer's choice")
            if self.header.parent is None and runs.count(PARENT):
                raise ImageWriteError(f"space {key} refers to a parent, but the image has none")
            build = SpaceBuild(key, runs, self._hash_seed is not None)
            self._spaces[key] = build
        return SpaceBuilder(self, build)

    def take_buffer(self) -> bytearray:
        """A frame buffer; touching fresh memory costs more than the copy, so they are reused."""
        with self._lock:
            return self._buffers.pop() if self._buffers else bytearray(FRAME_PAGES * PAGE_SIZE)

    def submit(self, build: SpaceBuild, pages: U64, buffer: bytearray) -> None:
        """Encode a filled buffer on the threads, and write what is ready."""
        with self._lock:
            if self._done:
                raise ImageWriteError(f"{self._sink.name} is closed already")
            future = self._pool.submit(
                encode_frame,
                build.key,
                pages,
                as_frame(buffer, len(pages)),
                base=self._base,
                level=self._level,
                hash_seed=self._hash_seed,
            )
            self._pending.append((build, buffer, future))
            while self._pending and (self._pending[0][2].done() or len(self._pending) > self._queue):
                self._write_oldest()

    def _write_oldest(self) -> None:
        build, buffer, future = self._pending.popleft()
        encoded = future.result()
        self._buffers.append(buffer)
        frame = 0
        if encoded.payload:
            frame = self._frame(
                PAGES, encoded.codec, encoded.payload, encoded.plain_size, encoded.plain_hash, encoded.depth
            )
            self._plain += encoded.plain_size
            self._stored += len(encoded.payload) + HEADER.size
        build.took(encoded, frame)

    def copy_frame(self, key: str, pages: U64, header: FrameHeader, payload: bytes) -> None:
        """Take over a whole page frame of another image as it is stored (not one with XOR)."""
        with self._lock:
            sequence = self._frame(PAGES, header.codec, payload, header.plain_size, header.plain_hash)
            self._plain += header.plain_size
            self._stored += header.stored_size + HEADER.size
            self._spaces[key].took_frame(pages, np.full(len(pages), DATA, np.uint8), sequence, None)

    # ------------------------------------------------------------ the end

    def drain(self) -> None:
        """Write every frame that is still being encoded."""
        with self._lock:
            while self._pending:
                self._write_oldest()

    def finish(self, statistics: Statistics) -> Statistics:
        """Write maps, statistics, index and trailer, and publish; gives the statistics with the counts in."""
        with self._lock:
            self.drain()
            written = parents = zeros = 0
            for key, build in self._spaces.items():
                table, hashes = build.result()
                for chunk in chunks_of_map(key, table):
                    self._small(PAGEMAP, chunk)
                if hashes is not None:
                    for chunk in chunks_of_hashes(key, hashes):
                        self._small(HASHES, chunk)
                runs = table.runs()
                written += runs.count(DATA) + runs.count(XOR)
                parents += runs.count(PARENT)
                zeros += runs.count(ZERO)
            statistics = dataclasses.replace(
                statistics,
                pages_scanned=statistics.pages_scanned or written + parents + zeros,
                pages_written=written,
                pages_skipped_parent=parents,
                pages_zero=zeros,
                bytes_plain=self._plain,
                bytes_stored=self._stored,
            )
            self.add(statistics)
            for part in pack_end(b"".join(self._headers), self._position):
                self._write(part)
            self._sink.finish()
            self._done = True
            self._pool.shutdown(wait=True)
            return statistics

    def abort(self) -> None:
        """Take back everything; does nothing after `finish` or when called again."""
        with self._lock:
            if self._done:
                return
            self._done = True
            for _, _, future in self._pending:
                future.cancel()
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pending.clear()
            self._buffers.clear()
            self._sink.abort()


class SpaceBuilder:
    """Fills frames of 64 pages with the bytes of one space; a SpaceWriter."""

    def __init__(self, writer: ImageWriter, build: SpaceBuild) -> None:
        self._writer = writer
        self._build = build
        self._pages = np.empty(FRAME_PAGES, np.uint64)
        self._buffer: bytearray | None = None
        self._filled = 0

    def put(self, pages: U64, data: memoryview) -> None:
        source = as_pages(data)
        if len(source) != len(pages):
            raise ValueError(f"{len(pages)} page numbers with the bytes of {len(source)} pages")
        done = 0
        while done < len(pages):
            if self._buffer is None:
                self._buffer = self._writer.take_buffer()
            count = min(FRAME_PAGES - self._filled, len(pages) - done)
            # The last page of the frame may lie far away: a frame holds what comes next, however scattered.
            as_pages(self._buffer)[self._filled : self._filled + count] = source[done : done + count]
            self._pages[self._filled : self._filled + count] = pages[done : done + count]
            self._filled += count
            done += count
            if self._filled == FRAME_PAGES:
                self._flush()

    def drop(self, pages: U64) -> None:
        self._build.dropped(pages)

    def close(self) -> None:
        self._flush()
        self._build.closed = True

    def _flush(self) -> None:
        if self._buffer is not None and self._filled:
            buffer, self._buffer = self._buffer, None
            self._writer.submit(self._build, self._pages[: self._filled].copy(), buffer)
        self._filled = 0
