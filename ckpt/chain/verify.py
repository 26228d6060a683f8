"""Reads every byte of every image of a chain, and says what is wrong with which."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ckpt.chain.ancestry import ancestors, check_rounds, image_paths
from ckpt.chain.layers import View
from ckpt.errors import ChainError, CkptError
from ckpt.image.reader import ImageReader
from ckpt.pages.compress import threads

Progress = Callable[[int, int], None]  # bytes done, bytes in all

CHUNK = 16  # frames that a thread checks at a time


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was read, and each problem in a sentence that names the image."""

    images: int
    frames: int
    bytes: int
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.problems


def verify(path: Path | str, progress: Progress | None = None) -> VerifyReport:
    """Verify every image of a directory, or one image file alone with what can be said without its ancestors.

    Raises ChainError when there is nothing to verify; whatever is wrong with an image is in the report.
    """
    target = Path(path)
    paths = image_paths(target) if os.path.isdir(target) else [target]
    if not paths or not os.path.exists(target):
        raise ChainError(f"there is no image in {target}", hint="give the directory of a chain with -D")
    return _Verification(target, paths, progress).run()


def checked(reader: ImageReader) -> Iterator[int | CkptError]:
    """For each frame in order its stored bytes, or what is wrong with it, as far as the image alone tells."""
    frames = len(reader.index.offsets)
    pool = ThreadPoolExecutor(threads(), "ckpt-verify")
    try:
        for some in pool.map(partial(_check, reader, frames), range(0, frames, CHUNK)):
            yield from some
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _check(reader: ImageReader, frames: int, first: int) -> list[int | CkptError]:
    found: list[int | CkptError] = []
    for frame in range(first, min(first + CHUNK, frames)):
        try:
            found.append(reader.check_stored(frame))
        except CkptError as error:
            found.append(error)
    return found


class _Verification:
    def __init__(self, target: Path, paths: list[Path], progress: Progress | None) -> None:
        self._target = target
        self._paths = paths
        self._progress = progress
        self._problems: list[str] = []
        self._frames = 0
        self._bytes = 0
        self._total = sum(path.stat().st_size for path in paths if path.exists())

    def run(self) -> VerifyReport:
        readers: list[ImageReader] = []
        try:
            for path in self._paths:
                try:
                    readers.append(ImageReader.open(path))
                except CkptError as error:
                    self._problem(error)
            if self._target.is_dir() and readers:
                try:
                    check_rounds(readers, self._target)
                except CkptError as error:
                    self._problem(error)
            for reader in readers:
                if self._image(reader):
                    self._in_chain(reader, readers)
        finally:
            for reader in readers:
                reader.close()
        return VerifyReport(len(self._paths), self._frames, self._bytes, tuple(dict.fromkeys(self._problems)))

    def _problem(self, error: CkptError) -> None:
        known = error.hint is not None and error.hint != type(error).usual_hint
        self._problems.append(f"{error.message} ({error.hint})" if known else error.message)

    def _image(self, reader: ImageReader) -> bool:
        """Every frame as far as the image alone allows; True when all are whole."""
        whole = True
        for found in checked(reader):
            if isinstance(found, CkptError):
                self._problem(found)
                whole = False
            else:
                self._bytes += found
            self._frames += 1
            if self._progress is not None:
                self._progress(min(self._bytes, self._total), self._total)
        try:
            reader.records()
            reader.hashes()
        except CkptError as error:
            self._problem(error)
            whole = False
        return whole

    def _in_chain(self, reader: ImageReader, readers: list[ImageReader]) -> None:
        """What needs the ancestors: pages that refer to a parent, and the content of XOR frames."""
        if reader.header.parent is None or not self._target.is_dir():
            return
        try:
            layers = ancestors(reader, {other.header.image_id: other for other in readers})
            View(layers).verify_top()
        except CkptError as error:
            self._problem(error)
