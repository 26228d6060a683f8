"""Where images go: one stream of bytes, made durable at its end or taken back."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from ckpt.errors import ImageWriteError, limit_hint
from ckpt.pages.compare import Buffer


class Sink(Protocol):
    """A stream that an image is written to. Any method but `abort` may raise ImageWriteError."""

    name: str

    def write(self, data: Buffer) -> None: ...

    def finish(self) -> None:
        """The image is complete: make it durable and visible."""

    def abort(self) -> None:
        """Leave nothing behind; never raises, safe to call twice and after `finish`."""


# So many bytes are sent on their way to the disk while others are written: the fsync at the end has less to wait for.
FLUSH = 8 << 20


def write_all(fd: int, data: Buffer) -> None:
    """write(2) until everything is out."""
    view = memoryview(data)
    while len(view):
        view = view[os.write(fd, view) :]


def sync_directory(path: Path) -> None:
    """fsync a directory, so that a rename in it survives a crash."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


Opener = Callable[[Path, int], int]
"""open(2) of a file with mode 0600, as whoever is to own it."""


def open_file(path: Path, flags: int) -> int:
    """An Opener: ourselves."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


class FileSink:
    """A file that appears under its name whole and durable, or not at all.

    `owner`: the uid and gid that it gets at its end, where that is allowed.
    """

    def __init__(
        self, path: Path, *, replace: bool = False, opener: Opener = open_file, owner: tuple[int, int] | None = None
    ) -> None:
        self.name = str(path)
        self.path = path
        self.temporary = path.with_name(f".{path.name}.tmp")
        self._replace = replace
        self._owner = owner
        self._published = False
        self._written = self._flushed = 0
        self._flusher: ThreadPoolExecutor | None = None
        self._fd = -1
        try:
            self.temporary.unlink(missing_ok=True)
            self._fd = opener(self.temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> ImageWriteError:
        hint = limit_hint(error.errno) or (
            "free space, or write to another directory"
            if error.errno in (errno.ENOSPC, errno.EDQUOT)
            else "look at the file system's state (dmesg, mount), or write to another directory"
        )
        return ImageWriteError(f"{self.name} cannot be written: {error.strerror}; nothing was kept", hint=hint)

    def write(self, data: Buffer) -> None:
        try:
            write_all(self._fd, data)
        except OSError as error:
            self.abort()
            raise self._failed(error) from error
        self._written += len(data)
        if self._written - self._flushed >= FLUSH:
            self._flush()

    def _flush(self) -> None:
        """Begin to write out what is new, on a thread, for that may have to wait for the disk's queue."""
        if self._flusher is None:
            self._flusher = ThreadPoolExecutor(1, "ckpt-flush")
        # Linux writes dirty pages out before it can drop them, does not wait for that, and so drops none of them.
        begin, size = self._flushed, self._written - self._flushed
        with suppress(RuntimeError):  # no thread can be started; `sync` writes all of it out
            self._flusher.submit(os.posix_fadvise, self._fd, begin, size, os.POSIX_FADV_DONTNEED)
        self._flushed = self._written

    def _close(self) -> None:
        if self._flusher is not None:
            self._flusher.shutdown(wait=True, cancel_futures=True)
            self._flusher = None
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def sync(self) -> None:
        """Make the temporary file's bytes durable."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            self.abort()
            raise self._failed(error) from error

    def finish(self) -> None:
        self.sync()
        if self._owner is not None:
            with suppress(OSError):
                os.fchown(self._fd, *self._owner)
        try:
            self._close()
            if not self._replace and self.path.exists():
                raise FileExistsError(errno.EEXIST, "a file of this name exists")
            self.temporary.rename(self.path)
            self._published = True
            sync_directory(self.path.parent)
        except OSError as error:
            self._withdraw()
            raise self._failed(error) from error

    def _withdraw(self) -> None:
        """An image whose name is not durable has failed: it may not stay visible either."""
        self.abort()
        if self._published:
            try:
                self.path.unlink(missing_ok=True)
            except OSError:
                pass  # the error that led here says more

    def abort(self) -> None:
        self._close()
        try:
            self.temporary.unlink(missing_ok=True)
        except OSError:
            pass  # the next writer that opens the chain removes it


class MemorySink:
    """An image in memory."""

    def __init__(self, name: str = "image") -> None:
        self.name = name
        self.data = bytearray()

    def write(self, data: Buffer) -> None:
        self.data += memoryview(data).cast("B")

    def finish(self) -> None:
        pass

    def abort(self) -> None:
        self.data.clear()


class DescriptorSink:
    """A pipe or a socket that someone else opened and closes."""

    def __init__(self, fd: int, name: str = "stream") -> None:
        self.name = name
        self._fd = fd

    def write(self, data: Buffer) -> None:
        try:
            write_all(self._fd, data)
        except OSError as error:
            raise ImageWriteError(f"{self.name} cannot be written: {error.strerror}") from error

    def finish(self) -> None:
        pass

    def abort(self) -> None:
        pass
