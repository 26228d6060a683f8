"""Where images come from: anything with a size that can be read at an offset."""

from __future__ import annotations

import os
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


class FileSource:
    """An image in a file."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._fd = -1
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self.size = os.fstat(self._fd).st_size
        except OSError as error:
            self.close()
            raise ImageError(f"{self.name} cannot be opened: {error.strerror}") from error

    def read_at(self, offset: int, size: int) -> bytes:
        parts: list[bytes] = []
        missing = size
        try:
            while missing:
                part = os.pread(self._fd, missing, offset)
                if not part:
                    raise ImageError(f"{self.name} ends {missing} bytes too early")
                parts.append(part)
                offset += len(part)
                missing -= len(part)
        except OSError as error:
            raise ImageError(f"{self.name} cannot be read: {error.strerror}") from error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

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
