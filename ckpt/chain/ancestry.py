"""Which images belong together: a directory's images by identity, and the way from one to its full image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ckpt.errors import ChainError, ImageError, MissingParent, WrongChain
from ckpt.image.reader import ImageReader
from ckpt.image.sources import whose

SUFFIX = ".ckpt"


def image_paths(directory: Path) -> list[Path]:
    """The image files of a directory, by name."""
    try:
        names = sorted(os.listdir(directory))
    except OSError as error:
        raise ChainError(f"{directory} cannot be read: {error.strerror}", hint=whose(directory, error)) from error
    return [directory / name for name in names if name.endswith(SUFFIX) and not name.startswith(".")]


@dataclass(frozen=True, slots=True)
class Broken:
    """A file that should be an image and cannot be opened as one."""

    path: Path
    error: ImageError


def open_each(paths: Sequence[Path]) -> tuple[list[ImageReader], list[Broken]]:
    """Readers for those files that are images, and the others."""
    readers: list[ImageReader] = []
    broken: list[Broken] = []
    for path in paths:
        try:
            readers.append(ImageReader.open(path))
        except ImageError as error:
            broken.append(Broken(path, error))
    return readers, broken


def lineage(path: Path, at: int | None) -> list[ImageReader]:
    """The image of round `at` (None: the newest; a file: itself) and its ancestors, newest first.

    A damaged image that is not needed does no harm, unless it may be the newest one.
    """
    if os.path.isdir(path):
        paths = image_paths(path)
        if not paths:
            raise ChainError(f"{path} holds no image")
    elif os.path.exists(path):
        paths = [path]
    else:
        raise ChainError(f"there is no {path}", hint="give a chain's directory or an image file with -D")
    readers, broken = open_each(paths)
    used: list[ImageReader] = []
    try:
        if not os.path.isdir(path):
            if broken:
                raise broken[0].error
            tip = _same_round(readers[0], at)
            if tip.header.parent is not None:
                others, broken = open_each([p for p in image_paths(path.parent) if not p.samefile(path)])
                readers += others
        else:
            tip = _tip(readers, broken, path, at)
        try:
            used = ancestors(tip, {reader.header.image_id: reader for reader in readers})
        except MissingParent as error:
            # More likely than a missing file is the one that is there and damaged.
            raise broken[0].error if broken else error from error
    finally:
        for reader in readers:
            if reader not in used:
                reader.close()
    return used


def _same_round(reader: ImageReader, at: int | None) -> ImageReader:
    if at is not None and reader.header.round != at:
        raise ChainError(f"{reader.name} is round {reader.header.round}, not {at}")
    return reader


def _tip(readers: Sequence[ImageReader], broken: Sequence[Broken], path: Path, at: int | None) -> ImageReader:
    check_rounds(readers, path)
    if at is None:
        tip = max(readers, key=lambda reader: reader.header.round, default=None)
        later = [one.error for one in broken if tip is None or one.path.name > Path(tip.name).name]
        if tip is None or later:
            raise later[0]
        return tip
    for reader in readers:
        if reader.header.round == at:
            return reader
    if broken:
        raise broken[0].error
    rounds = ", ".join(str(number) for number in sorted(reader.header.round for reader in readers))
    raise ChainError(f"{path} has no round {at}", hint=f"there are rounds {rounds}")


def check_rounds(readers: Sequence[ImageReader], directory: Path) -> None:
    """The images of one directory have one chain identity, and each round and identity once."""
    rounds: dict[int, ImageReader] = {}
    identities: dict[bytes, ImageReader] = {}
    for reader in readers:
        if reader.header.chain_id != readers[0].header.chain_id:
            raise WrongChain(
                f"{reader.name} belongs to another chain than {readers[0].name}",
                hint="keep the images of each chain in a directory of their own",
            )
        other = rounds.setdefault(reader.header.round, reader)
        twin = identities.setdefault(reader.header.image_id, reader)
        if other is not reader or twin is not reader:
            same = other if other is not reader else twin
            raise ChainError(f"{directory}: {same.name} and {reader.name} are the same round")


def ancestors(tip: ImageReader, known: dict[bytes, ImageReader]) -> list[ImageReader]:
    """The image and its ancestors down to a full one."""
    way = [tip]
    while (wanted := way[-1].header.parent) is not None:
        child = way[-1]
        parent = known.get(wanted)
        if parent is None:
            raise MissingParent(
                f"{child.name} needs its parent, image {wanted.hex()}, which is not beside it",
                hint="put the missing image back, or take a full dump into a new directory",
            )
        if parent in way:
            raise ChainError(f"{child.name} and its ancestors form a circle: {parent.name} is its own ancestor")
        if parent.header.chain_id != child.header.chain_id:
            raise WrongChain(f"{child.name} names {parent.name} as its parent, which belongs to another chain")
        if parent.header.round >= child.header.round:
            raise ChainError(f"{child.name} has the parent {parent.name}, which is no earlier round")
        way.append(parent)
    return way
