"""Frames that several spaces of an image have: what forked tasks still share is stored once."""

from __future__ import annotations

from ckpt.image.layout import XOR_ZSTD

_MOST = 1 << 17  # frames remembered: those of 8 GiB


class SharedFrames:
    """The page frames of an image by what is in them. XOR frames are never shared: their base is their space's."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, list[int]] = {}
        self._had: dict[tuple[str, bytes], int] = {}  # how many of them a space has: the same one never twice
        self._count = 0

    def find(self, key: str, codec: int, plain_hash: bytes) -> int | None:
        """The number of a frame with these bytes that space `key` does not have yet; it is taken to have it now."""
        numbers = self._numbers.get(plain_hash)
        if codec == XOR_ZSTD or numbers is None:
            return None
        had = self._had.get((key, plain_hash), 0)
        if had == len(numbers):
            return None
        self._had[key, plain_hash] = had + 1
        return numbers[had]

    def add(self, key: str, codec: int, plain_hash: bytes, number: int) -> None:
        """A frame was written for space `key`, which has all others with these bytes already."""
        if codec == XOR_ZSTD or self._count == _MOST:
            return
        self._count += 1
        self._numbers.setdefault(plain_hash, []).append(number)
        self._had[key, plain_hash] = len(self._numbers[plain_hash])
