"""Which images belong together: a directory's images by identity, and the way from one to its full image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ckpt.errors import ChainError, ImageError, MissingParent, WrongChain
from ckpt.image.reader import ImageReader

SUFFIX = ".ckpt"


def image_paths(directory: Path) -> list[Path]:
    """The image files of a directory, by name."""
    try:
        names = sorted(os.listdir(directory))
    except OSError as error:
        raise ChainError(f"{directory} cannot be read: {error.strerror}") from error
    return [directory / name for name in names if name.endswith(SUFFIX) and not name.startswith(".")]


def open_all(paths: Sequence[Path]) -> list[ImageReader]:
    """Readers for some files, or none of them."""
    readers: list[ImageReader] = []
    try:
        for path in paths:
            readers.append(ImageReader.open(path))
    except BaseException:
        for reader in readers:
            reader.close()
        raise
    return readers


def readers_of(path: Path) -> list[ImageReader]:
    """Every image in the directory `path`, or in that of the file `path` if the file needs its parents."""
    if path.is_dir():
        readers = open_all(image_paths(path))
        if not readers:
            raise ChainError(f"{path} holds no image")
        return readers
    if not path.exists():
        raise ChainError(f"there is no {path}")
    tip = ImageReader.open(path)
    if tip.header.parent is None:
        return [tip]
    others: list[ImageReader] = [tip]
    for other in image_paths(path.parent):
        if other.samefile(path):
            continue
        try:
            others.append(ImageReader.open(other))
        except ImageError:
            # Whether this one is needed shows in the lineage, which then misses it by identity.
            continue
    return others


def lineage(readers: Sequence[ImageReader], path: Path, at: int | None) -> list[ImageReader]:
    """The image of round `at` (None: the newest; a file: itself) and its ancestors, newest first."""
    used: list[ImageReader] = []
    try:
        tip = _tip(readers, path, at)
        used = ancestors(tip, {reader.header.image_id: reader for reader in readers})
    finally:
        for reader in readers:
            if reader not in used:
                reader.close()
    return used


def _tip(readers: Sequence[ImageReader], path: Path, at: int | None) -> ImageReader:
    if not path.is_dir():
        if at is not None and readers[0].header.round != at:
            raise ChainError(f"{path} is round {readers[0].header.round}, not {at}")
        return readers[0]
    check_rounds(readers, path)
    if at is None:
        return max(readers, key=lambda reader: reader.header.round)
    for reader in readers:
        if reader.header.round == at:
            return reader
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
            raise ChainError(
                f"{child.name} and its ancestors form a circle: {parent.name} is its own ancestor"
            )
        if parent.header.chain_id != child.header.chain_id:
            raise WrongChain(
                f"{child.name} names {parent.name} as its parent, which belongs to another chain"
            )
        if parent.header.round >= child.header.round:
            raise ChainError(f"{child.name} has the parent {parent.name}, which is no earlier round")
        way.append(parent)
    return way
