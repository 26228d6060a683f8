"""One image on top of its ancestors: which bytes each page has, read and verified."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ckpt.chain.ancestry import lineage
from ckpt.chain.cache import FrameCache
from ckpt.chain.resolved import I64, Places, Resolved
from ckpt.errors import ImageError
from ckpt.image.layout import FRAME_PAGES, MAX_XOR_DEPTH, XOR_ZSTD
from ckpt.image.reader import ImageReader
from ckpt.image.spacemap import SpaceMap
from ckpt.pages.compare import xor_into
from ckpt.pages.compress import threads
from ckpt.pages.hashes import HASH_SIZE, hash_pages, seed_of, zero_hash
from ckpt.records.base import Record
from ckpt.records.image import ImageHeader, Statistics
from ckpt.records.runs import DATA, GUARD, PAGE_SIZE, PARENT, U8, U64, XOR, ZERO, PageRuns, distinct, expand

CACHE_SIZE = 24 << 20
BATCH_PAGES = 1024  # 4 MiB
READ_AHEAD = 3  # batches; one more is in the caller's hands
READ_THREADS = 2
SCATTER_FRAMES = 8  # 2 MiB: two threads seldom fill the same huge page
RESOLVE_PAGES = 1 << 18

Mask = npt.NDArray[np.bool_]
Take = Callable[[U64, memoryview], None]


def view(path: Path | str, at: int | None = None, *, trusting: bool = False) -> View:
    """The image of round `at` (None: the newest) of a chain's directory, or the image in a file; see View.

    Raises ImageError, MissingParent, WrongChain or another ChainError.
    """
    return View(lineage(Path(path), at), trusting=trusting)


class View:
    """An ImageView: `layers` are the image itself and then its ancestors, newest first.

    `trusting`: for bases of differences. Stored bytes are checked against their checksum all the same, but not the
    plain ones: a wrong base is noticed in whatever stands on it.
    """

    def __init__(self, layers: Sequence[ImageReader], *, trusting: bool = False) -> None:
        self.layers = tuple(layers)
        self.cache = FrameCache(CACHE_SIZE)
        self._trusting = trusting
        self._hashes: dict[int, dict[str, U8]] = {}
        self._hash_lock = threading.Lock()
        self._keys: dict[str, tuple[str, ...]] = {}
        self._tables: dict[str, Resolved] = {}
        self._tables_lock = threading.Lock()
        self._rooms = _Room()

    @property
    def header(self) -> ImageHeader:
        return self.layers[0].header

    @property
    def statistics(self) -> Statistics:
        return self.layers[0].statistics

    def close(self) -> None:
        self.cache.clear()
        self._hashes.clear()
        self._tables.clear()
        for layer in self.layers:
            layer.close()

    def __enter__(self) -> View:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def records(self, name: str) -> Sequence[Record]:
        return self.layers[0].records(name)

    def spaces(self) -> Sequence[str]:
        return tuple(self.layers[0].maps)

    def keys(self, key: str) -> tuple[str, ...]:
        """What a space of the newest layer is called in each layer: one that was forked stands on another's pages."""
        found = self._keys.get(key)
        if found is None:
            names = [key]
            for layer in self.layers[:-1]:
                names.append(layer.base_of(names[-1]))
            found = self._keys[key] = tuple(names)
        return found

    # ------------------------------------------------------------ which pages there are

    def runs(self, key: str) -> PageRuns:
        return self.resolved(key).runs()

    def resolved(self, key: str) -> Resolved:
        """Where each page of a space is; found once."""
        with self._tables_lock:
            table = self._tables.get(key)
            if table is None:
                maps = [layer.maps.get(name) for layer, name in zip(self.layers, self.keys(key), strict=True)]
                table = self._tables[key] = Resolved.of(maps, [layer.name for layer in self.layers], key)
            return table

    def places(self, key: str, pages: U64, top: int = 0) -> Places:
        """Where the bytes of pages are as layer `top` sees them; kind XOR stays, PARENT does not."""
        if not top:
            return self.resolved(key).locate(pages)
        found = Places(np.zeros(len(pages), np.uint8), *[np.zeros(len(pages), np.int64) for _ in range(3)])
        left: I64 = np.arange(len(pages))
        for depth in range(top, len(self.layers)):
            table = self.layers[depth].maps.get(self.keys(key)[depth])
            here = (table if table is not None else SpaceMap.join([])).locate(pages[left])
            found.kind[left], found.frame[left], found.slot[left] = here.kind, here.frame, here.slot
            found.layer[left] = depth
            if depth > top and not here.kind.all():
                name = self.layers[depth - 1].name
                raise ImageError(f"{name} refers to pages of {key} that its parent does not have")
            left = left[here.kind == PARENT]
            if not len(left):
                break
        return found

    # ------------------------------------------------------------ bytes

    def _fill(self, key: str, pages: U64, out: U8, top: int = 0, below: int = MAX_XOR_DEPTH + 1) -> None:
        """The bytes of populated pages into `out`, shape (n, 4096), as layer `top` sees them."""
        if not len(pages):
            return
        places = self.places(key, pages, top)
        kind, layer, frame, slot = places.kind, places.layer, places.frame, places.slot
        stored = (kind == DATA) | (kind == XOR)
        if not stored.all():
            zero = kind == ZERO
            if not (stored | zero).all():
                lost = int(pages[np.argmin(stored | zero)]) * PAGE_SIZE
                raise ImageError(f"{self.layers[top].name}: page {lost:#x} of {key} has no bytes")
            out[zero] = 0
        identity = (layer << 32) | frame
        identity[~stored] = -1
        order = np.argsort(identity, kind="stable")
        changes = np.flatnonzero(np.diff(identity[order])) + 1
        for where in np.split(order, changes):
            first = where[0]
            if identity[first] < 0:
                continue
            content = self._frame(key, int(layer[first]), int(frame[first]), below)
            slots = slot[where]
            if where[-1] - first == len(where) - 1 and (np.diff(slots) == 1).all():
                # One stretch in both: a plain copy, without index arrays.
                out[first : first + len(where)] = content[slots[0] : slots[0] + len(where)]
            else:
                out[where] = content[slots]

    def _frame(self, key: str, layer: int, frame: int, below: int) -> U8:
        depth = self.layers[layer].index.header(frame).depth
        if depth >= below:
            raise ImageError(f"{self.layers[layer].where(frame)} lies deeper under XOR frames than their depth allows")
        return self.cache.get((layer, frame), lambda: self._decode(key, layer, frame))

    def _decode(self, key: str, layer: int, frame: int, room: U8 | None = None) -> U8:
        """The verified pages of a frame; in `room`, of just that size, where it is given."""
        reader = self.layers[layer]
        header, payload = reader.stored(frame)
        content = np.empty((header.plain_size // PAGE_SIZE, PAGE_SIZE), np.uint8) if room is None else room
        reader.unpack_into(frame, header, payload, content)
        if header.codec == XOR_ZSTD:
            pages, kinds = reader.frame_pages(self.keys(key)[layer], frame)
            changed = kinds == XOR
            old = np.zeros(content.shape, np.uint8)
            part = np.empty((int(changed.sum()), PAGE_SIZE), np.uint8)
            self.fill(key, pages[changed], part, layer + 1, header.depth)
            old[changed] = part
            xor_into(content, old)
        elif self._trusting:
            return content
        try:
            reader.check_plain(frame, header, content.data)
        except ImageError as error:
            if header.codec != XOR_ZSTD:
                raise
            raise ImageError(f"{reader.where(frame)} does not fit the content of its parent") from error
        return content

    def fill(self, key: str, pages: U64, out: U8, top: int = 0, below: int = MAX_XOR_DEPTH + 1) -> U8:
        """The bytes of DATA or ZERO pages, in any order, into `out`, shape (n, 4096), which it gives back."""
        if (pages[1:] > pages[:-1]).all():
            self._fill(key, pages, out, top, below)
            return out
        order = np.argsort(pages, kind="stable")
        part = np.empty_like(out)
        self._fill(key, pages[order], part, top, below)
        out[order] = part
        return out

    def frame_size(self, layer: int, frame: int) -> int:
        """The plain bytes of a page frame."""
        return int(self.layers[layer].index.plain_sizes[frame])

    def read(self, key: str) -> Iterator[tuple[U64, memoryview]]:
        buffers = [np.empty((BATCH_PAGES, PAGE_SIZE), np.uint8) for _ in range(READ_AHEAD + 1)]
        todo = batches(self.runs(key).of(DATA), BATCH_PAGES)
        ahead: deque[tuple[U64, U8, Future[None]]] = deque()
        pool = ThreadPoolExecutor(READ_THREADS, "ckpt-read")
        try:
            while True:
                while buffers and (pages := next(todo, None)) is not None:
                    buffer = buffers.pop()
                    ahead.append((pages, buffer, pool.submit(self._fill, key, pages, buffer[: len(pages)])))
                if not ahead:
                    return
                pages, buffer, future = ahead.popleft()
                future.result()
                yield pages, buffer[: len(pages)].reshape(-1).data
                buffers.append(buffer)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def scatter(self, key: str, take: Take) -> Iterator[int]:
        table = self.resolved(key).stored()
        identity = (table.layer << 32) | table.frame
        rows = np.concatenate([[0], np.flatnonzero(np.diff(identity)) + 1, [len(identity)]]).tolist()
        if not len(identity):
            return
        frames = list(pairwise(rows))
        if len(frames) <= SCATTER_FRAMES:  # not worth any threads
            yield self._scatter_frames(key, table, frames, take)
            return
        units = (frames[at : at + SCATTER_FRAMES] for at in range(0, len(frames), SCATTER_FRAMES))
        ahead: deque[Future[int]] = deque()
        workers = threads()
        pool = ThreadPoolExecutor(workers, "ckpt-read")
        try:
            for unit in units:
                ahead.append(pool.submit(self._scatter_frames, key, table, unit, take))
                if len(ahead) > 2 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _scatter_frames(self, key: str, table: Resolved, frames: Sequence[tuple[int, int]], take: Take) -> int:
        """On a thread: the wanted pages of some frames, decoded side by side and handed over while in the cache."""
        first, last = frames[0][0], frames[-1][1]
        count = table.nr_pages[first:last]
        pages = expand(table.start[first:last], count)
        slots = expand(table.offset[first:last].astype(np.uint64), count).astype(np.int64)
        ends = np.cumsum(count).astype(np.int64)
        room = self._rooms.pages
        begun = done = filled = 0
        for row, end_row in frames:
            layer, frame, end = int(table.layer[row]), int(table.frame[row]), int(ends[end_row - 1 - first])
            size = self.frame_size(layer, frame) // PAGE_SIZE
            if filled + size > len(room):
                take(pages[begun:done], room[:filled].reshape(-1).data)
                begun, filled = done, 0
            content = self._decode(key, layer, frame, room[filled : filled + size])
            if end - done < size:
                room[filled : filled + end - done] = content[slots[done:end]]
            filled += end - done
            done = end
        take(pages[begun:done], room[:filled].reshape(-1).data)
        return done

    def read_pages(self, key: str, pages: U64) -> bytes:
        out = np.empty((len(pages), PAGE_SIZE), np.uint8)
        return self.fill(key, pages, out).tobytes()

    def verify_top(self) -> None:
        """Check what the newest layer says about its parent: PARENT pages exist, XOR frames fit."""
        top = self.layers[0]
        for key, table in top.maps.items():
            self.runs(key)
            for frame in distinct(table.frame[table.kind == XOR]).tolist():
                self._frame(key, 0, frame, MAX_XOR_DEPTH + 1)

    def hash_column(self, layer: int, key: str) -> U8 | None:
        with self._hash_lock:
            if layer not in self._hashes:
                self._hashes[layer] = self.layers[layer].hashes()
            return self._hashes[layer].get(key)

    # ------------------------------------------------------------ hashes

    def hashes(self, key: str) -> tuple[U64, U8]:
        """Every DATA and ZERO page, ascending, and its 128-bit hash, shape (n, 16), seeded by `hash_seed`.

        Stored hashes are used where the images have them; other pages are read and hashed.
        """
        runs = self.runs(key)
        keep = runs.kind != GUARD
        pages = PageRuns(runs.start[keep], runs.nr_pages[keep], runs.kind[keep]).pages()
        result = np.empty((len(pages), HASH_SIZE), np.uint8)
        columns = [self.hash_column(depth, name) for depth, name in enumerate(self.keys(key))]
        for at in range(0, len(pages), RESOLVE_PAGES):
            part = pages[at : at + RESOLVE_PAGES]
            self._hash_part(key, part, result[at : at + len(part)], columns)
        return pages, result

    def _hash_part(self, key: str, pages: U64, out: U8, columns: Sequence[U8 | None]) -> None:
        places = self.places(key, pages)
        kind, layer = places.kind, places.layer
        zero = kind == ZERO
        out[zero] = zero_hash(self.hash_seed)
        for depth in distinct(layer[~zero]).tolist():
            mine = np.flatnonzero((layer == depth) & ~zero)
            column = columns[depth]
            if column is not None:
                out[mine] = column[self.layers[depth].maps[self.keys(key)[depth]].rank(pages[mine])]
                continue
            for at in range(0, len(mine), BATCH_PAGES):
                some = mine[at : at + BATCH_PAGES]
                out[some] = hash_pages(self.read_pages(key, pages[some]), self.hash_seed)

    @property
    def hash_seed(self) -> int:
        return seed_of(self.header.chain_id)


class _Room(threading.local):
    """Some frames' memory for each thread: touching fresh memory costs as much as decompressing into it."""

    def __init__(self) -> None:
        self.pages = np.empty((4 * FRAME_PAGES, PAGE_SIZE), np.uint8)


def batches(runs: PageRuns, size: int) -> Iterator[U64]:
    """The pages of runs in order, at most `size` at a time, without expanding them all."""
    if not len(runs.start):
        return
    ends = np.cumsum(runs.nr_pages)
    total = int(ends[-1])
    for at in range(0, total, size):
        rank = np.arange(at, min(at + size, total), dtype=np.uint64)
        row = np.searchsorted(ends, rank, "right")
        yield runs.start[row] + (rank - (ends[row] - runs.nr_pages[row]))
