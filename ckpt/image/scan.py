"""Rebuilds the index of an image whose end is lost, from the frames themselves."""

from __future__ import annotations

from ckpt.errors import ImageError
from ckpt.image.ending import pack_end
from ckpt.image.layout import (
    FRAME_KINDS,
    HEADER,
    INDEX,
    PROLOGUE,
    check_prologue,
    parse_header,
)
from ckpt.image.reader import ImageReader, Index
from ckpt.image.sinks import Sink
from ckpt.image.sources import Source

COPY_SIZE = 4 << 20


def scan(source: Source) -> Index:
    """The index of an image by walking from frame to frame, up to the index frame or the end of the file.

    Raises ImageError where a frame is damaged or cut off. The result is a whole image only if
    ImageReader, given this index, finds the statistics last; every map stands before them.
    """
    check_prologue(source.read_at(0, min(source.size, PROLOGUE.size)), source.name)
    headers: list[bytes] = []
    at = PROLOGUE.size
    while at < source.size:
        where = f"{source.name}: frame {len(headers)} at {at}"
        packed = source.read_at(at, min(HEADER.size, source.size - at))
        header = parse_header(packed, where)
        if header.sequence != len(headers):
            raise ImageError(f"{where} says that it is frame {header.sequence}")
        if header.kind == INDEX:
            break
        if at + HEADER.size + header.stored_size > source.size:
            missing = at + HEADER.size + header.stored_size - source.size
            raise ImageError(f"{where} ({FRAME_KINDS[header.kind]}) is cut off: {missing} bytes are missing")
        headers.append(packed)
        at += HEADER.size + header.stored_size
    return Index.of(b"".join(headers))


def rebuild(source: Source, sink: Sink) -> None:
    """Write the image again with a new index and trailer. Raises ImageError when more is missing."""
    index = scan(source)
    reader = ImageReader(source, index)
    for frame in range(len(index.offsets)):
        reader.check_stored(frame)
    # Statistics are the last record, maps come before them: what they account for must all be there.
    written = sum(int(table.nr_pages[table.stored()].sum()) for table in reader.maps.values())
    if written != reader.statistics.pages_written:
        named = reader.statistics.pages_written
        raise ImageError(f"{source.name} has the maps of {written} pages, its statistics name {named}")
    for at in range(0, index.end, COPY_SIZE):
        sink.write(source.read_at(at, min(COPY_SIZE, index.end - at)))
    for part in pack_end(index.headers, index.end):
        sink.write(part)
    sink.finish()
