"""The epochs journal: what the trackers' state belongs to, durable before a round clears any of it.

One small file, replaced atomically: magic, blake3 of the rest, one record.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import blake3

from ckpt.errors import ChainError, ImageError, ImageWriteError, limit_hint
from ckpt.image.codec import decode_record, encode_record
from ckpt.image.sinks import Opener, open_file, sync_directory, write_all
from ckpt.image.sources import whose
from ckpt.records.journal import JournalRecord, TrackerState

NAME = "journal"
MAGIC = b"CKPTJRN\n"

UNFINISHED = "the last round did not finish"
DAMAGED = "the journal is damaged"

__all__ = ["Journal", "TrackerState", "read_journal", "write_journal"]


@dataclass(frozen=True, slots=True)
class Journal:
    """What a chain's journal says."""

    image_id: bytes | None  # the image whose commit resolved `last`
    last: TrackerState | None
    pending: bool  # a round began to clear tracking state and never resolved it
    reason: str | None  # why `last` may not be relied on
    sequence: int  # of the last intent


def read_journal(directory: Path) -> Journal | None:
    """The journal of a chain; None when no round has ever written one."""
    try:
        data = (directory / NAME).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        hint = whose(directory / NAME, error)
        raise ChainError(f"{directory / NAME} cannot be read: {error.strerror}", hint=hint) from error
    body = data[len(MAGIC) + 32 :]
    if data[: len(MAGIC)] != MAGIC or blake3.blake3(body).digest() != data[len(MAGIC) : len(MAGIC) + 32]:
        return Journal(None, None, True, DAMAGED, 0)
    try:
        record = decode_record(body, str(directory / NAME))
    except ImageError:
        return Journal(None, None, True, DAMAGED, 0)
    if not isinstance(record, JournalRecord):
        return Journal(None, None, True, DAMAGED, 0)
    pending = record.intent is not None
    newest = record.intent or record.last
    return Journal(
        record.image_id,
        record.last,
        pending,
        UNFINISHED if pending else None,
        newest.sequence if newest else 0,
    )


def write_journal(directory: Path, record: JournalRecord, opener: Opener = open_file) -> None:
    """Replace the journal; durable when this returns."""
    body = encode_record(record)
    path = directory / NAME
    temporary = directory / f".{NAME}.tmp"
    try:
        temporary.unlink(missing_ok=True)
        fd = opener(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            write_all(fd, MAGIC + blake3.blake3(body).digest() + body)
            os.fsync(fd)
        finally:
            os.close(fd)
        temporary.rename(path)
        sync_directory(directory)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        hint = limit_hint(error.errno) or "free space, or look at the file system's state (dmesg, mount)"
        raise ImageWriteError(f"{path} cannot be written: {error.strerror}", hint=hint) from error
