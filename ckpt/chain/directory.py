"""A chain's directory: its lock, its images in order, and the beginning of a new round."""

from __future__ import annotations

import dataclasses
import fcntl
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ckpt.chain.ancestry import SUFFIX, check_rounds, image_paths, open_each
from ckpt.chain.journal import Journal, TrackerState, read_journal, write_journal
from ckpt.chain.layers import View, view
from ckpt.chain.parent import SHADOWS, ParentPages
from ckpt.chain.round import Round
from ckpt.errors import ChainBusy, ChainError, MissingParent, UsageError
from ckpt.image.sinks import FileSink, Opener, open_file
from ckpt.image.sources import whose
from ckpt.image.writer import ImageWriter
from ckpt.pages.compress import DEFAULT_LEVEL
from ckpt.pages.hashes import seed_of
from ckpt.records.image import ImageHeader, Statistics
from ckpt.records.journal import JournalRecord
from ckpt.records.runs import PAGE_SIZE

LOCK = "lock"
VERSION = "0.1.0"


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What one image of a chain says about itself."""

    path: Path
    size: int  # bytes
    header: ImageHeader
    statistics: Statistics


class Chain:
    """The images of one directory. Opened for writing it holds the lock until `close`."""

    def __init__(self, directory: Path, lock_fd: int, opener: Opener = open_file) -> None:
        self.directory = directory
        self._lock_fd = lock_fd
        self._opener = opener
        self._intent: TrackerState | None = None

    @classmethod
    def open(
        cls, directory: Path | str, *, create: bool = False, write: bool = False, opener: Opener = open_file
    ) -> Chain:
        """Open a chain's directory; `create` makes a missing one (0700) and implies `write`. `opener` makes the lock
        and the journal.

        Opened for writing, what killed runs left behind is removed. Raises ChainError, ChainBusy.
        """
        path = Path(directory)
        try:
            if create and not os.path.isdir(path):  # unlike Path.is_dir it never fails
                path.parent.mkdir(parents=True, exist_ok=True)
                path.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise ChainError(f"{path} cannot be made: {error.strerror}") from error
        if not os.path.isdir(path):
            raise ChainError(f"there is no directory {path}", hint="give the directory of a chain with -D")
        chain = cls(path, _lock(path, opener) if create or write else -1, opener)
        if chain.writable:
            chain._clean()
        return chain

    @property
    def writable(self) -> bool:
        return self._lock_fd >= 0

    def close(self) -> None:
        if self._lock_fd >= 0:
            # A process that another thread is just starting has the descriptor, too, until it executes its program.
            fcntl.flock(self._lock_fd, fcntl.LOCK_UN)
            os.close(self._lock_fd)
            self._lock_fd = -1

    def __enter__(self) -> Chain:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _clean(self) -> None:
        try:
            for path in self.directory.iterdir():
                if path.name.startswith(".") and path.name.endswith(".tmp") and path.is_file():
                    path.unlink(missing_ok=True)
        except OSError as error:
            self.close()
            raise ChainError(f"{self.directory} cannot be cleaned up: {error.strerror}") from error

    def _need_lock(self) -> None:
        if not self.writable:
            raise ChainError(f"{self.directory} is open for reading only")

    # ------------------------------------------------------------ what is there

    def rounds(self) -> Sequence[ImageInfo]:
        """Every image, oldest first; reads headers and statistics. Raises ImageError and ChainError."""
        readers, broken = open_each(image_paths(self.directory))
        try:
            if broken:
                raise broken[0].error
            check_rounds(readers, self.directory)
            infos = [ImageInfo(Path(r.name), r.source.size, r.header, r.statistics) for r in readers]
        finally:
            for reader in readers:
                reader.close()
        return sorted(infos, key=lambda info: info.header.round)

    def view(self, at: int | None = None) -> View:
        """The newest image, or that of round `at`, on top of its ancestors."""
        return view(self.directory, at)

    # ------------------------------------------------------------ the journal

    def journal(self) -> Journal | None:
        """The last resolved tracker state and whether an intent is pending; None before the first one."""
        return read_journal(self.directory)

    def journal_withdraw(self) -> None:
        """The round of the last intent ended before it cleared anything: what was true before is true still."""
        old = self.journal()
        if old is not None and old.pending and old.last is not None:
            self._write_journal(JournalRecord(old.image_id, old.last, None))

    def journal_intent(self, *, pid: int, start_time: int, boot_id: str, tracker: str) -> None:
        """A round is about to clear tracking state: durable on return, resolved by the round's commit."""
        self._need_lock()
        old = self.journal()
        sequence = (old.sequence if old else 0) + 1
        intent = TrackerState(pid, start_time, boot_id, tracker, sequence, {})
        self._write_journal(JournalRecord(old.image_id if old else None, old.last if old else None, intent))
        self._intent = intent

    def _write_journal(self, record: JournalRecord) -> None:
        write_journal(self.directory, record, self._opener)

    def resolve(self, image_id: bytes, states: dict[str, bytes]) -> None:
        """The intent ended in this image (called by the round's commit)."""
        if self._intent is None:
            return
        state = dataclasses.replace(self._intent, states=dict(states))
        self._write_journal(JournalRecord(image_id, state, None))
        self._intent = None

    def full_reason(self, *, pid: int, start_time: int, boot_id: str, tracker: str) -> str | None:
        """Why the next round of this task has to be a full one; None when it may be a delta."""
        rounds = self.rounds()
        if not rounds:
            return "first round"
        tip = rounds[-1].header
        if tip.kind == "merged":
            return "the chain's newest image is a merged one"
        try:
            self.view().close()
        except MissingParent:
            return "an ancestor's image is missing"
        if (tip.root_pid, tip.root_start_time, tip.boot_id) != (pid, start_time, boot_id):
            return "the task is not the one of the last round"
        if tracker == "content-hash":
            return None  # its state is the parent image itself
        journal = self.journal()
        if journal is None or journal.last is None:
            return journal.reason if journal is not None and journal.reason else "there is no tracker state"
        if journal.reason:
            return journal.reason
        if journal.image_id != tip.image_id:
            return "the tracker state does not belong to the newest image"
        if journal.last.tracker != tracker:
            return f"the last round used the tracker {journal.last.tracker}"
        last = journal.last
        if (last.pid, last.start_time, last.boot_id) != (pid, start_time, boot_id):
            return "the tracker state belongs to another task"
        return None

    # ------------------------------------------------------------ a new round

    def begin(
        self,
        *,
        kind: str,
        root_pid: int,
        root_start_time: int,
        boot_id: str,
        tracker: str,
        kernel_release: str,
        full_reason: str | None = None,
        arch: str = "x86_64",
        shadow: str = "auto",
        hash_pages: bool | None = None,
        level: int = DEFAULT_LEVEL,
        opener: Opener = open_file,
    ) -> Round:
        """Begin the next image: a delta on the newest one, or a full one when `full_reason` says why.

        `shadow` "image" XORs pages with the parent's bytes, "auto" where looking them up pays, "off" never reads the
        parent. `hash_pages` stores
        a hash beside every stored page, and lets equal hashes tell what has not changed; None: if the tracker is
        content-hash, which hands in every page.
        """
        self._need_lock()
        if kind not in ("pre-dump", "dump"):
            raise UsageError(f"an image cannot be a {kind!r}")
        if shadow not in SHADOWS:
            raise UsageError(f"there is no shadow {shadow!r}", hint=f"one of {', '.join(SHADOWS)}")
        rounds = self.rounds()
        tip = rounds[-1].header if rounds else None
        if tip is None and full_reason is None:
            raise ChainError(f"the first image in {self.directory} has to be a full one")
        full = full_reason is not None
        hashing = tracker == "content-hash" if hash_pages is None else hash_pages
        if not full and tip is not None and tip.kind == "merged":
            raise ChainError(f"{self.directory} ends in a merged image, which no delta can follow")
        number = tip.round + 1 if tip else 1
        header = ImageHeader(
            image_id=os.urandom(16),
            chain_id=tip.chain_id if tip else os.urandom(16),
            kind=kind,
            round=number,
            parent=None if full or tip is None else tip.image_id,
            root_pid=root_pid,
            root_start_time=root_start_time,
            boot_id=boot_id,
            tracker=tracker,
            full_reason=full_reason,
            created=time.time(),
            page_size=PAGE_SIZE,
            arch=arch,
            kernel_release=kernel_release,
            ckpt_version=VERSION,
        )
        # Opening the parent also shows, before anything is frozen, that every ancestor is there.
        parent = None if full else view(self.directory, trusting=True)
        try:
            writer = ImageWriter(
                FileSink(self.directory / f"{number:04d}{SUFFIX}", opener=opener),
                header,
                base=None if parent is None or shadow == "off" else ParentPages(parent, thrifty=shadow == "auto"),
                level=level,
                hash_seed=seed_of(header.chain_id) if hashing else None,
            )
        except BaseException:
            if parent is not None:
                parent.close()
            raise
        return Round(self, writer, parent)


def _lock(directory: Path, opener: Opener) -> int:
    path = directory / LOCK
    try:
        try:
            fd = opener(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        hint = f"{known}; or use another directory" if (known := whose(path, error)) else None
        raise ChainError(f"{path} cannot be opened: {error.strerror}", hint=hint) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise ChainBusy(
            f"another ckpt works on {directory}", hint="wait until it is done, or use another directory"
        ) from error
    except OSError as error:
        os.close(fd)
        raise ChainError(f"{path} cannot be locked: {error.strerror}") from error
    return fd
