"""Flattens a chain into one image: a new file, verified, then published; never in place."""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np

from ckpt.chain.ancestry import SUFFIX, image_paths
from ckpt.chain.directory import LOCK
from ckpt.chain.layers import View, batches, view
from ckpt.chain.resolved import coalesced
from ckpt.chain.verify import checked
from ckpt.errors import ChainError, CkptError, ImageError, ImageWriteError
from ckpt.image.layout import XOR_ZSTD
from ckpt.image.reader import ImageReader
from ckpt.image.sinks import FileSink, sync_directory
from ckpt.image.writer import UNIT_PAGES, ImageWriter
from ckpt.pages.compress import DEFAULT_LEVEL
from ckpt.records.image import ImageHeader, Statistics
from ckpt.records.runs import DATA, PAGE_SIZE, U8, U64, ZERO, PageRuns

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
            if target.suffix == SUFFIX and (target.parent / LOCK).exists():
                raise ChainError(f"{target} would lie among the images of another chain", hint=ELSEWHERE)
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
        if building.exists():  # of a merge that was killed, unless something else is in it
            if {path.name for path in building.iterdir()} - {FIRST, f".{FIRST}.tmp"}:
                raise ChainError(f"{building} is in the way of the merged image", hint=f"rename it, or {ELSEWHERE}")
            shutil.rmtree(building)
        target.parent.mkdir(parents=True, exist_ok=True)
        building.mkdir(mode=0o700)
        if (owner := _owner(chain, target.parent)) is not None:
            _give(building, *owner)
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
    sink = _Verified(path, replace=force, owner=_owner(chain, path.parent))
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


def _owner(chain: View, directory: Path) -> tuple[int, int] | None:
    """Of what root merges in the directory of a user whose images they all are: that user."""
    found = os.stat(directory)
    his = all(os.stat(layer.name).st_uid == found.st_uid for layer in chain.layers)
    return (found.st_uid, found.st_gid) if not os.geteuid() and his else None


def _give(directory: Path, uid: int, gid: int) -> None:
    """chown(2) of a directory, and of nothing that its new owner has laid in its place."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchown(fd, uid, gid)
    finally:
        os.close(fd)


class _Verified(FileSink):
    """A file that is read back and compared with the chain before it gets its name."""

    verify_against: View | None = None

    def finish(self) -> None:
        self.sync()
        try:
            self._verify()
        except CkptError as error:
            self.abort()
            raise ImageWriteError(f"{self.name} was not read back as written: {error.message}") from error
        super().finish()

    def _verify(self) -> None:
        reader = ImageReader.open(self.temporary)
        try:
            for found in checked(reader):
                if isinstance(found, CkptError):
                    raise found
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
        """Frames whose pages are all in use are taken over; the pages of others go through the writer's threads."""
        space = self._writer.space(key, runs)
        table = self._chain.resolved(key).stored()
        identity = (table.layer << 32) | table.frame
        edges = [0, *(np.flatnonzero(np.diff(identity)) + 1).tolist(), len(identity)]
        rest = np.zeros(len(identity), np.bool_)
        for first, last in pairwise(edges):
            pages = int(table.nr_pages[first:last].sum())
            if pages and self._is_whole(int(table.layer[first]), int(table.frame[first]), pages):
                self._copy(key, int(table.layer[first]), int(table.frame[first]))
                self._advance(pages)
            else:
                rest[first:last] = True
        order = np.argsort(table.start[rest])
        left = PageRuns(table.start[rest][order], table.nr_pages[rest][order], table.kind[rest][order])
        for some in batches(left, UNIT_PAGES):
            space.pull(some, partial(self._load, key, some))
            self._advance(len(some))
        space.settle()
        space.close()

    def _load(self, key: str, pages: U64, out: U8) -> None:
        self._chain.fill(key, pages, out)

    def _is_whole(self, layer: int, frame: int, used: int) -> bool:
        header = self._chain.layers[layer].index.header(frame)
        return header.codec != XOR_ZSTD and header.plain_size == used * PAGE_SIZE

    def _copy(self, key: str, layer: int, frame: int) -> None:
        """As it is stored; what the bytes inside are is checked when the whole image is read back."""
        reader = self._chain.layers[layer]
        header, payload = reader.stored(frame)
        pages = reader.frame_pages(self._chain.keys(key)[layer], frame)[0]
        self._writer.copy_frame(key, pages, header, payload)
        self.copied += 1

    def _advance(self, pages: int) -> None:
        self._done += pages * PAGE_SIZE
        if self._progress is not None:
            self._progress(self._done, self._total)
