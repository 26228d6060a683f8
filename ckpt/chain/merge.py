"""Flattens a chain into one image: a new file, verified, then published; never in place."""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ckpt.chain.ancestry import SUFFIX, image_paths
from ckpt.chain.layers import BATCH_PAGES, RESOLVE_PAGES, View, batches, view
from ckpt.chain.resolved import I64, coalesced
from ckpt.errors import ChainError, ImageError, ImageWriteError
from ckpt.image.layout import XOR_ZSTD
from ckpt.image.reader import ImageReader
from ckpt.image.sinks import FileSink, sync_directory
from ckpt.image.writer import ImageWriter
from ckpt.pages.compress import DEFAULT_LEVEL
from ckpt.records.image import ImageHeader, Statistics
from ckpt.records.runs import DATA, PAGE_SIZE, ZERO, PageRuns, distinct

Progress = Callable[[int, int], None]  # bytes done, bytes in all

FIRST = f"0001{SUFFIX}"
ELSEWHERE = "merge into a new directory"


@dataclass(frozen=True, slots=True)
class MergeResult:
    """The merged image and how it came about."""

    path: Path
    header: ImageHeader
    statistics: Statistics
    images: int  # that went into it
    frames_copied: int  # taken over without recompression
    size: int  # bytes


def merge(
    directory: Path | str,
    output: Path | str,
    *,
    at: int | None = None,
    force: bool = False,
    level: int = DEFAULT_LEVEL,
    progress: Progress | None = None,
) -> MergeResult:
    """Merge the image of round `at` (None: the newest) with its ancestors into one that needs none.

    An `output` with a suffix (".ckpt") is a file, any other the directory of a new chain that holds 0001.ckpt.
    An existing image is replaced only with `force`. Raises ImageError, ChainError, ImageWriteError.
    """
    target = Path(output)
    source = Path(directory)
    with view(source, at) as chain:
        if target.suffix and not target.is_dir():
            home = source if source.is_dir() else source.parent
            if target.parent.exists() and target.parent.samefile(home):
                raise ChainError(f"{target} would lie among the images that are merged", hint=ELSEWHERE)
            if target.is_dir() or (target.exists() and not force):
                raise ChainError(f"{target} exists already", hint="choose another name, or use --force")
            return _merge_file(chain, target, target, force, level, progress)
        return _merge_directory(chain, source, target, force, level, progress)


def _merge_directory(
    chain: View, source: Path, target: Path, force: bool, level: int, progress: Progress | None
) -> MergeResult:
    if target.exists():
        home = source if source.is_dir() else source.parent
        if not target.is_dir() or target.samefile(home):
            raise ChainError(f"{target} cannot take the merged image", hint=ELSEWHERE)
        images = image_paths(target)
        if any(path.name != FIRST for path in images) or (images and not force):
            raise ChainError(f"{target} holds images already", hint=ELSEWHERE)
        return _merge_file(chain, target / FIRST, target / FIRST, force, level, progress)
    # The directory appears together with its image: built beside, renamed when it is whole.
    building = target.with_name(f".{target.name}.tmp")
    try:
        if building.exists():
            shutil.rmtree(building)
        target.parent.mkdir(parents=True, exist_ok=True)
        building.mkdir(mode=0o700)
    except OSError as error:
        raise ImageWriteError(f"{target} cannot be made: {error.strerror}") from error
    try:
        result = _merge_file(chain, building / FIRST, target / FIRST, False, level, progress)
        building.rename(target)
        sync_directory(target.parent)
    except OSError as error:
        shutil.rmtree(building, ignore_errors=True)
        raise ImageWriteError(f"{target} cannot be made: {error.strerror}") from error
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return result


def _merge_file(
    chain: View, path: Path, final: Path, force: bool, level: int, progress: Progress | None
) -> MergeResult:
    header = dataclasses.replace(
        chain.header,
        image_id=os.urandom(16),
        chain_id=os.urandom(16),
        kind="merged",
        round=1,
        parent=None,
        full_reason=f"merged from {len(chain.layers)} images",
        created=time.time(),
    )
    sink = _Verified(path, replace=force)
    writer = ImageWriter(sink, header, level=level)
    try:
        merger = _Merger(chain, writer, progress)
        merger.run()
        sink.verify_against = chain
        statistics = writer.finish(dataclasses.replace(chain.statistics, pages_scanned=0))
        size = path.stat().st_size
    finally:
        writer.abort()
    return MergeResult(final, header, statistics, len(chain.layers), merger.copied, size)


class _Verified(FileSink):
    """A file that is read back and compared with the chain before it gets its name."""

    verify_against: View | None = None

    def finish(self) -> None:
        self.sync()
        try:
            self._verify()
        except ImageError as error:
            self.abort()
            raise ImageWriteError(f"{self.name} was not read back as written: {error.message}") from error
        super().finish()

    def _verify(self) -> None:
        reader = ImageReader.open(self.temporary)
        try:
            for frame in range(len(reader.index.offsets)):
                reader.check_stored(frame)
            made, wanted = View([reader]), self.verify_against
            if wanted is None:
                return
            if tuple(made.spaces()) != tuple(wanted.spaces()):
                raise ImageError("it has other spaces")
            for key in made.spaces():
                mine, theirs = _populated(made.runs(key)), _populated(wanted.runs(key))
                columns = ("start", "nr_pages", "kind")
                if not all(np.array_equal(getattr(mine, c), getattr(theirs, c)) for c in columns):
                    raise ImageError(f"the map of {key} differs")
        finally:
            reader.close()


def _populated(runs: PageRuns) -> PageRuns:
    """The runs with ZERO taken as DATA: a page found to be zero may have changed its kind."""
    return coalesced(runs.start, runs.nr_pages, np.where(runs.kind == ZERO, DATA, runs.kind).astype(np.uint8))


class _Merger:
    def __init__(self, chain: View, writer: ImageWriter, progress: Progress | None) -> None:
        self._chain = chain
        self._writer = writer
        self._progress = progress
        self._runs = {key: chain.runs(key) for key in chain.spaces()}
        self._total = sum(runs.count(DATA) for runs in self._runs.values()) * PAGE_SIZE
        self._done = 0
        self.copied = 0

    def run(self) -> None:
        for record in self._chain.layers[0].records():
            if record.RECORD_NAME not in ("header", "statistics"):
                self._writer.add(record)
        for key, runs in self._runs.items():
            self._space(key, runs)

    def _space(self, key: str, runs: PageRuns) -> None:
        space = self._writer.space(key, runs)
        whole = self._whole_frames(key, runs.of(DATA))
        copied: set[int] = set()
        for pages in batches(runs.of(DATA), BATCH_PAGES):
            identity = self._chain.whereabouts(key, pages)
            keep = np.isin(identity, whole)
            for found in distinct(identity[keep]).tolist():
                if found not in copied:
                    copied.add(found)
                    self._copy(key, found)
            if not keep.all():
                space.put(pages[~keep], memoryview(self._chain.read_pages(key, pages[~keep])))
            self._advance(len(pages))
        space.close()
        self._writer.drain()

    def _whole_frames(self, key: str, data: PageRuns) -> I64:
        """The frames whose pages are all in use and that need no parent, as `layer << 32 | frame`."""
        found: list[I64] = []
        counts: list[I64] = []
        for pages in batches(data, RESOLVE_PAGES):
            identity, count = np.unique(self._chain.whereabouts(key, pages), return_counts=True)
            found.append(identity)
            counts.append(count)
        if not found:
            return np.empty(0, np.int64)
        identity, inverse = np.unique(np.concatenate(found), return_inverse=True)
        used = np.bincount(inverse, np.concatenate(counts)).astype(np.int64)
        whole = [
            one
            for one, count in zip(identity.tolist(), used.tolist(), strict=True)
            if self._is_whole(one >> 32, one & 0xFFFFFFFF, count)
        ]
        return np.array(whole, np.int64)

    def _is_whole(self, layer: int, frame: int, used: int) -> bool:
        header = self._chain.layers[layer].index.header(frame)
        return header.codec != XOR_ZSTD and header.plain_size == used * PAGE_SIZE

    def _copy(self, key: str, identity: int) -> None:
        reader, frame = self._chain.layers[identity >> 32], identity & 0xFFFFFFFF
        header, payload = reader.stored(frame)
        reader.check_plain(frame, header, reader.unpack(frame, header, payload))
        self._writer.copy_frame(key, reader.frame_pages(key, frame)[0], header, payload)
        self.copied += 1

    def _advance(self, pages: int) -> None:
        self._done += pages * PAGE_SIZE
        if self._progress is not None:
            self._progress(self._done, self._total)
