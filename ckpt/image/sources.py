"""Where images come from: anything with a size that can be read at an offset."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Protocol

from ckpt.errors import ImageError


class Source(Protocol):
    """Random access to an image's bytes; safe to use from several threads."""

    name: str
    size: int

    def read_at(self, offset: int, size: int) -> bytes:
        """Exactly `size` bytes, or ImageError."""

    def close(self) -> None: ...


# A long chain has more images than a process may have open files: beyond this many, a file is opened for each read.
HELD_OPEN = 128


def whose(path: Path, error: OSError) -> str | None:
    """A hint where a file or directory of somebody else may not be opened; None for any other error."""
    if error.errno not in (errno.EACCES, errno.EPERM):
        return None
    for one in (path, *path.absolute().parents):
        try:
            uid = os.stat(one).st_uid
        except OSError:
            continue
        if uid == os.geteuid():
            return f"{one} is this user's own: give it the rights that it lacks (chmod)"
        return f"{one} belongs to user {uid}: run ckpt as that user or as root, or let him give it away (chown)"
    return None


class FileSource:
    """An image in a file."""

    _held = 0
    _lock = threading.Lock()

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._fd = -1
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO of that name does not make us wait
        except OSError as error:
            raise self._failed("opened", error) from error
        try:
            self.size = os.fstat(fd).st_size
            with FileSource._lock:
                if FileSource._held < HELD_OPEN:
                    FileSource._held += 1
                    self._fd = fd
        except OSError as error:
            raise self._failed("opened", error) from error
        finally:
            if self._fd < 0:
                os.close(fd)

    def _failed(self, what: str, error: OSError) -> ImageError:
        return ImageError(f"{self.name} cannot be {what}: {error.strerror}", hint=whose(self._path, error))

    def read_at(self, offset: int, size: int) -> bytes:
        try:
            if self._fd >= 0:
                return self._read(self._fd, offset, size)
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                return self._read(fd, offset, size)
            finally:
                os.close(fd)
        except OSError as error:
            raise self._failed("read", error) from error

    def _read(self, fd: int, offset: int, size: int) -> bytes:
        parts: list[bytes] = []
        while size:
            part = os.pread(fd, size, offset)
            if not part:
                raise ImageError(f"{self.name} ends {size} bytes too early")
            parts.append(part)
            offset += len(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            with FileSource._lock:
                FileSource._held -= 1

    def __del__(self) -> None:
        self.close()


class BytesSource:
    """An image in memory."""

    def __init__(self, data: bytes, name: str = "image") -> None:
        self.name = name
        self.size = len(data)
        self._data = data

    def read_at(self, offset: int, size: int) -> bytes:
        if offset + size > self.size:
            raise ImageError(f"{self.name} ends {offset + size - self.size} bytes too early")
        return self._data[offset : offset + size]

    def close(self) -> None:
        pass
