"""zstd with one context for each thread: a context is not safe to share, and costly to make."""

from __future__ import annotations

import os
import threading

import zstandard

from ckpt.pages.compare import Buffer

DEFAULT_LEVEL = 1
MAX_THREADS = 8


def threads() -> int:
    """How many threads keep the cores busy with pages: one more than there are, for each waits for the GIL at times."""
    return min(len(os.sched_getaffinity(0)) + 1, MAX_THREADS)


class _Contexts(threading.local):
    def __init__(self) -> None:
        self.decompressor = zstandard.ZstdDecompressor()
        self.compressors: dict[int, zstandard.ZstdCompressor] = {}


_contexts = _Contexts()


def compress(data: Buffer, level: int = DEFAULT_LEVEL) -> bytes:
    """One zstd frame that names its plain size and carries no checksum (an image frame has its own)."""
    compressor = _contexts.compressors.get(level)
    if compressor is None:
        compressor = zstandard.ZstdCompressor(level=level, write_checksum=False, write_content_size=True)
        _contexts.compressors[level] = compressor
    return compressor.compress(data)


def decompress(data: Buffer, plain_size: int) -> bytes:
    """The plain bytes, exactly `plain_size` of them; ValueError for anything else."""
    try:
        # The size that the frame names decides the allocation, so it is compared first.
        named = zstandard.frame_content_size(data)
        if named != plain_size:
            raise ValueError(f"the compressed data names {named} plain bytes, not {plain_size}")
        plain = _contexts.decompressor.decompress(data, max_output_size=plain_size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(f"zstd: {error}") from error
    if len(plain) != plain_size:
        raise ValueError(f"{len(plain)} plain bytes came out instead of {plain_size}")
    return plain


def decompress_into(data: Buffer, out: memoryview) -> None:
    """The plain bytes into `out`, which they fill exactly; ValueError for anything else. Touches no fresh memory."""
    try:
        named = zstandard.frame_content_size(data)
        if named != len(out):
            raise ValueError(f"the compressed data names {named} plain bytes, not {len(out)}")
        with _contexts.decompressor.stream_reader(data, read_size=len(data)) as reader:
            got = reader.readinto(out)
    except zstandard.ZstdError as error:
        raise ValueError(f"zstd: {error}") from error
    if got != len(out):
        raise ValueError(f"{got} plain bytes came out instead of {len(out)}")
