"""The bytes of an image: prologue, frame header, trailer, and the limits on every size read from a file.

images/FORMAT.md is the contract; this module is where its numbers stand in code.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np
import xxhash

from ckpt.errors import ImageError, ImageVersionError
from ckpt.records.runs import PAGE_SIZE

VERSION = (1, 0)

PROLOGUE_MAGIC = b"CKPTIMG\n"
PROLOGUE = struct.Struct("<8sHHI")  # magic, major, minor, crc32 of the bytes before it

TRAILER_MAGIC = b"CKPTEND\n"
TRAILER = struct.Struct("<8sQQQQ")  # magic, offset of the index frame, frames before it, image size, xxh3_64

FRAME_MAGIC = b"\xc4FRM"
HEADER = struct.Struct("<4sBBHIIQQ32sQ")
HEADER_DTYPE = np.dtype(
    [
        ("magic", "S4"),
        ("kind", "u1"),
        ("codec", "u1"),
        ("depth", "<u2"),
        ("stored_size", "<u4"),
        ("plain_size", "<u4"),
        ("sequence", "<u8"),
        ("stored_sum", "<u8"),
        ("plain_hash", "V32"),
        ("header_sum", "<u8"),
    ]
)

# Frame kinds
RECORD = 1
PAGES = 2
PAGEMAP = 3
HASHES = 4
INDEX = 5

FRAME_KINDS = {RECORD: "record", PAGES: "pages", PAGEMAP: "pagemap", HASHES: "hashes", INDEX: "index"}

# Codecs
RAW = 0
ZSTD = 1
XOR_ZSTD = 2  # pages only: those of kind XOR hold the XOR with the parent's bytes

CODECS = {RAW: "raw", ZSTD: "zstd", XOR_ZSTD: "xor+zstd"}

FRAME_PAGES = 64
MAX_XOR_DEPTH = 16
MAX_PLAIN = {
    RECORD: 16 << 20,
    PAGES: FRAME_PAGES * PAGE_SIZE,
    PAGEMAP: 16 << 20,
    HASHES: 16 << 20,
    INDEX: 1 << 30,  # always raw, so the file itself must be as large
}
MAX_KEY = 4096  # bytes of a space key


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """Stands before each frame's payload. `plain_hash` is blake3 of the bytes after every decoding step."""

    kind: int
    codec: int
    depth: int  # XOR frames: how many images deep the bases go, from 1; 0 otherwise
    stored_size: int
    plain_size: int
    sequence: int  # frames before this one
    stored_sum: int  # xxh3_64 of the payload
    plain_hash: bytes

    def pack(self) -> bytes:
        body = HEADER.pack(
            FRAME_MAGIC,
            self.kind,
            self.codec,
            self.depth,
            self.stored_size,
            self.plain_size,
            self.sequence,
            self.stored_sum,
            self.plain_hash,
            0,
        )[:-8]
        return body + xxhash.xxh3_64_intdigest(body).to_bytes(8, "little")


def parse_header(data: bytes, where: str) -> FrameHeader:
    """The header in 72 bytes, checked as far as it can be checked alone."""
    if len(data) != HEADER.size:
        raise ImageError(f"{where} is cut off: {len(data)} of {HEADER.size} header bytes are there")
    magic, kind, codec, depth, stored, plain, sequence, stored_sum, plain_hash, header_sum = HEADER.unpack(data)
    if magic != FRAME_MAGIC or xxhash.xxh3_64_intdigest(data[:-8]) != header_sum:
        raise ImageError(f"{where} has a damaged header")
    if kind not in FRAME_KINDS:
        raise ImageError(f"{where} is of unknown kind {kind}")
    name = FRAME_KINDS[kind]
    if codec not in CODECS or (codec == XOR_ZSTD and kind != PAGES) or (codec != RAW and kind == INDEX):
        raise ImageError(f"{where} ({name}) has codec {codec}, which such a frame cannot have")
    if (depth > 0) != (codec == XOR_ZSTD) or depth > MAX_XOR_DEPTH:
        raise ImageError(f"{where} ({name}) has XOR depth {depth} with codec {CODECS[codec]}")
    if plain > MAX_PLAIN[kind]:
        raise ImageError(f"{where} ({name}) names {plain} plain bytes; at most {MAX_PLAIN[kind]} are allowed")
    if stored > MAX_PLAIN[kind] or (codec == RAW and stored != plain):
        raise ImageError(f"{where} ({name}) names {stored} stored bytes for {plain} plain ones")
    if kind == PAGES and (plain % PAGE_SIZE or not plain):
        raise ImageError(f"{where} holds {plain} bytes, which are not whole pages")
    return FrameHeader(kind, codec, depth, stored, plain, sequence, stored_sum, plain_hash)


def pack_prologue(version: tuple[int, int] = VERSION) -> bytes:
    body = PROLOGUE.pack(PROLOGUE_MAGIC, *version, 0)[:-4]
    return body + zlib.crc32(body).to_bytes(4, "little")


def check_prologue(data: bytes, name: str) -> None:
    """Refuse what is no image, damaged, or of a newer version."""
    if len(data) < PROLOGUE.size or data[:8] != PROLOGUE_MAGIC:
        raise ImageError(f"{name} is not an image of ckpt")
    _, major, minor, checksum = PROLOGUE.unpack(data[: PROLOGUE.size])
    if zlib.crc32(data[: PROLOGUE.size - 4]) != checksum:
        raise ImageError(f"{name} has a damaged prologue")
    if (major, minor) > VERSION or major != VERSION[0]:
        raise ImageVersionError(
            f"{name} has format version {major}.{minor}; this ckpt reads up to {VERSION[0]}.{VERSION[1]}",
            hint="use the ckpt that wrote the image, or a newer one",
        )


def pack_trailer(index_offset: int, frames: int, size: int) -> bytes:
    body = TRAILER.pack(TRAILER_MAGIC, index_offset, frames, size, 0)[:-8]
    return body + xxhash.xxh3_64_intdigest(body).to_bytes(8, "little")


def parse_trailer(data: bytes, size: int, name: str) -> tuple[int, int]:
    """(offset of the index frame, frames before it); `size` is the file's."""
    if len(data) != TRAILER.size or data[:8] != TRAILER_MAGIC:
        raise ImageError(f"{name} does not end in a trailer: its end is damaged, or was cut off while it was copied")
    _, offset, frames, named, checksum = TRAILER.unpack(data)
    if xxhash.xxh3_64_intdigest(data[:-8]) != checksum:
        raise ImageError(f"{name} has a damaged trailer")
    if named != size:
        raise ImageError(f"{name} is {size} bytes long, its trailer names {named}")
    if offset < PROLOGUE.size or offset + HEADER.size + TRAILER.size > size:
        raise ImageError(f"{name} has its index at {offset}, outside the file")
    return offset, frames
