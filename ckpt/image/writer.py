"""Writes one image as one stream: records and page frames as they come, maps, statistics, index, trailer."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeAlias

import blake3
import numpy as np
import numpy.typing as npt
import xxhash

from ckpt.errors import ImageWriteError
from ckpt.image.codec import encode_record
from ckpt.image.encode import Encoded, PageBase, encode_pages
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
from ckpt.image.sharing import SharedFrames
from ckpt.image.sinks import Sink
from ckpt.image.spacebuild import SpaceBuild
from ckpt.image.spacemap import chunks_of_hashes, chunks_of_map
from ckpt.pages.compare import Buffer, as_pages
from ckpt.pages.compress import DEFAULT_LEVEL, compress, threads
from ckpt.records.base import Record
from ckpt.records.image import ImageHeader, Statistics
from ckpt.records.runs import DATA, PAGE_SIZE, PARENT, U8, U64, XOR, ZERO, PageRuns

# Payloads below this are not worth a try with zstd.
SMALL = 256
# What is handed to a thread at a time: four frames, as much as stays in a core's own cache.
UNIT_PAGES = 4 * FRAME_PAGES
Load: TypeAlias = Callable[[U8], npt.NDArray[np.bool_] | None]
"""Fills an array of shape (n, 4096) with pages, on some thread; says which ones it filled, None: all."""


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
        # Each holds about 4 MiB at its peak: the plain pages, the base, their difference, the payloads.
        workers = threads()
        self._queue = 3 * workers
        self._pool = ThreadPoolExecutor(workers, "ckpt-encode")
        self._pending: deque[tuple[SpaceBuild, U8 | None, Future[tuple[Encoded, U64]]]] = deque()
        self._buffers: list[U8] = []
        self._scratch = _Scratch()
        self._shared = SharedFrames()
        self._plain = 0
        self._stored = 0
        self.write_ns = 0  # spent in the sink
        self._done = False
        self._broken: BaseException | None = None
        self._write(pack_prologue())
        self.add(header)

    # ------------------------------------------------------------ frames

    def _write(self, data: bytes) -> None:
        if self._done:
            raise ImageWriteError(f"{self._sink.name} is closed already")
        started = time.perf_counter_ns()
        try:
            self._sink.write(data)
        except BaseException as error:
            # Taking the lock, emptying the queue and ending the threads is the caller's abort().
            self._broken = error
            self._sink.abort()
            raise
        self.write_ns += time.perf_counter_ns() - started
        self._position += len(data)

    def _frame(self, kind: int, codec: int, payload: Buffer, plain_size: int, plain_hash: bytes, depth: int = 0) -> int:
        sequence = len(self._headers)
        checksum = xxhash.xxh3_64_intdigest(payload)
        header = FrameHeader(kind, codec, depth, len(payload), plain_size, sequence, checksum, plain_hash)
        self._headers.append(header.pack())
        self._write(b"".join([self._headers[-1], payload]))
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

    def space(self, key: str, runs: PageRuns, base: str = "") -> SpaceBuilder:
        """Begin a space; the bytes of its DATA pages follow through the builder. `base`: the space of the parent that
        it stands on, when that has another key."""
        if not key or len(key.encode("utf-8", "surrogateescape")) > MAX_KEY:
            raise ImageWriteError(f"a space cannot be called {key!r:.60}")
        with self._lock:
            if key in self._spaces:
                raise ImageWriteError(f"space {key} is in the image already")
            if runs.count(XOR):
                raise ImageWriteError(f"space {key}: which pages are stored as XOR is the writer's choice")
            if self.header.parent is None and runs.count(PARENT):
                raise ImageWriteError(f"space {key} refers to a parent, but the image has none")
            build = SpaceBuild(key, runs, self._hash_seed is not None, base if self.header.parent is not None else "")
            self._spaces[key] = build
        return SpaceBuilder(self, build)

    def take_buffer(self) -> U8:
        """A buffer for a unit, shape (UNIT_PAGES, 4096); touching fresh memory costs more than the copy."""
        with self._lock:
            return self._buffers.pop() if self._buffers else np.empty((UNIT_PAGES, PAGE_SIZE), np.uint8)

    def submit(self, build: SpaceBuild, pages: U64, source: Load | U8) -> None:
        """Encode at most UNIT_PAGES pages on the threads, and write what is ready.

        `source` is asked for the bytes there, or it is a buffer that holds them, to be reused afterwards.
        """
        with self._lock:
            if self._done:
                raise ImageWriteError(f"{self._sink.name} is closed already")
            try:
                future = self._pool.submit(self._encode, build.base or build.key, pages, source)
            except RuntimeError as error:
                hint = "raise the limits on processes (ulimit -u) or on memory (ulimit -v) for ckpt"
                raise ImageWriteError(f"{self._sink.name} cannot be written: {error}", hint=hint) from None
            self._pending.append((build, None if callable(source) else source, future))
            while self._pending and (self._pending[0][2].done() or len(self._pending) > self._queue):
                self._write_oldest()

    def _encode(self, key: str, pages: U64, source: Load | U8) -> tuple[Encoded, U64]:
        """On a thread: the frames, and the pages that could not be had."""
        missing = pages[:0]
        if callable(source):
            data = self._scratch.buffer[: len(pages)]
            there = source(data)
            if there is not None:
                missing, pages, data = pages[~there], pages[there], data[there]
        else:
            data = source[: len(pages)]
        made = encode_pages(key, pages, data, base=self._base, level=self._level, hash_seed=self._hash_seed)
        return made, missing

    def _write_oldest(self) -> None:
        build, buffer, future = self._pending.popleft()
        encoded, missing = future.result()
        if buffer is not None:
            self._buffers.append(buffer)
        numbers, parts = [], []
        for frame in encoded.frames:
            self._plain += frame.plain_size
            known = self._shared.find(build.key, frame.codec, frame.plain_hash)
            numbers.append(len(self._headers) if known is None else known)
            if known is not None:
                continue
            header = FrameHeader(
                PAGES, frame.codec, frame.depth, len(frame.payload), frame.plain_size, len(self._headers),
                frame.stored_sum, frame.plain_hash,
            ).pack()  # fmt: skip
            self._shared.add(build.key, frame.codec, frame.plain_hash, len(self._headers))
            self._headers.append(header)
            parts += [header, frame.payload]
        if parts:
            stored = b"".join(parts)
            self._stored += len(stored)
            self._write(stored)
        build.took(encoded, numbers)
        if len(missing):
            build.dropped(missing)

    def copy_frame(self, key: str, pages: U64, header: FrameHeader, payload: Buffer) -> None:
        """Take over a whole page frame of another image as it is stored (not one with XOR)."""
        with self._lock:
            self._plain += header.plain_size
            sequence = self._shared.find(key, header.codec, header.plain_hash)
            if sequence is None:
                sequence = self._frame(PAGES, header.codec, payload, header.plain_size, header.plain_hash)
                self._shared.add(key, header.codec, header.plain_hash, sequence)
                self._stored += header.stored_size + HEADER.size
            self._spaces[key].took_frame(pages, np.full(len(pages), DATA, np.uint8), sequence, None)

    # ------------------------------------------------------------ the end

    def drain(self) -> None:
        """Write every frame that is still being encoded; after a failed write, that failure again."""
        with self._lock:
            if self._broken is not None:
                raise self._broken
            while self._pending:
                self._write_oldest()

    def wait(self) -> None:
        """Until no thread asks a Load for bytes any more; what went wrong shows in `drain`."""
        with self._lock:
            wait([future for _, _, future in self._pending])

    def finish(self, statistics: Statistics) -> Statistics:
        """Write maps, statistics, index and trailer, and publish; gives the statistics with the counts in."""
        with self._lock:
            self.drain()
            written = parents = zeros = 0
            for key, build in self._spaces.items():
                table, hashes = build.result()
                for chunk in chunks_of_map(key, table, build.base):
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


class _Scratch(threading.local):
    """The buffer of one thread."""

    def __init__(self) -> None:
        self.buffer = np.empty((UNIT_PAGES, PAGE_SIZE), np.uint8)


class SpaceBuilder:
    """Cuts the bytes of one space into units for the threads; a SpaceWriter."""

    def __init__(self, writer: ImageWriter, build: SpaceBuild) -> None:
        self._writer = writer
        self._build = build
        self._pages = np.empty(UNIT_PAGES, np.uint64)
        self._buffer: U8 | None = None
        self._filled = 0

    def put(self, pages: U64, data: memoryview) -> None:
        source = as_pages(data)
        if len(source) != len(pages):
            raise ValueError(f"{len(pages)} page numbers with the bytes of {len(source)} pages")
        done = 0
        while done < len(pages):
            if self._buffer is None:
                self._buffer = self._writer.take_buffer()
            count = min(UNIT_PAGES - self._filled, len(pages) - done)
            # The last page of a unit may lie far away: a frame holds what comes next, however scattered.
            self._buffer[self._filled : self._filled + count] = source[done : done + count]
            self._pages[self._filled : self._filled + count] = pages[done : done + count]
            self._filled += count
            done += count
            if self._filled == UNIT_PAGES:
                self._flush()

    def pull(self, pages: U64, load: Load) -> None:
        if len(pages) > UNIT_PAGES:
            raise ValueError(f"{len(pages)} pages at a time; at most {UNIT_PAGES}")
        self._writer.submit(self._build, pages, load)

    def settle(self) -> None:
        self._writer.wait()
        self._writer.drain()

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
