"""The records about an image itself: its header and its statistics."""

from __future__ import annotations

from ckpt.records.base import record


@record("header")
class ImageHeader:
    """The first frame of an image: what it is, of whom, and on top of which parent."""

    image_id: bytes  # 16 random bytes
    chain_id: bytes  # 16 random bytes, the same in every image of a chain
    kind: str  # pre-dump | dump | merged
    round: int  # counts from 1
    parent: bytes | None  # image_id of the parent; None in a full image
    root_pid: int
    root_start_time: int  # clock ticks since boot, field 22 of /proc/PID/stat
    boot_id: str
    tracker: str  # soft-dirty | write-protect | content-hash | none
    full_reason: str | None  # why this image has no parent
    created: float  # seconds since the epoch
    page_size: int
    arch: str  # x86_64
    kernel_release: str
    ckpt_version: str


@record("statistics")
class Statistics:
    """The last record of an image; times in microseconds, named as in CRIU's stats."""

    freezing_time: int = 0
    frozen_time: int = 0
    snapshot: str | None = None  # how a dump's cut was made: fork | frozen; None in a pre-dump, which has none
    snapshot_reason: str | None = None  # why that way, where another was possible
    memdump_time: int = 0
    memwrite_time: int = 0
    lost: tuple[str, ...] = ()  # why tracking vouches for nothing of a task that it was armed for, one text a task
    pages_scanned: int = 0
    pages_written: int = 0
    pages_skipped_parent: int = 0
    pages_zero: int = 0
    bytes_plain: int = 0
    bytes_stored: int = 0
