"""The end of an image: its index and its trailer."""

from __future__ import annotations

import blake3
import xxhash

from ckpt.image.layout import HEADER, INDEX, RAW, TRAILER, FrameHeader, pack_trailer


def pack_end(headers: bytes, offset: int) -> tuple[bytes, bytes]:
    """The index frame and the trailer of an image whose frames end at `offset`."""
    frames = len(headers) // HEADER.size
    header = FrameHeader(
        INDEX,
        RAW,
        0,
        len(headers),
        len(headers),
        frames,
        xxhash.xxh3_64_intdigest(headers),
        blake3.blake3(headers).digest(),
    )
    index = header.pack() + headers
    return index, pack_trailer(offset, frames, offset + len(index) + TRAILER.size)
