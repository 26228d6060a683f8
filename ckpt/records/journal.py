"""The records of a chain's journal, which stands beside the images and not in one."""

from __future__ import annotations

from dataclasses import dataclass

from ckpt.records.base import record


@dataclass(frozen=True, slots=True)
class TrackerState:
    """What dirty tracking knows about a tree after a round: opaque bytes for each address space."""

    pid: int  # the root task
    start_time: int  # clock ticks since boot, field 22 of /proc/PID/stat
    boot_id: str
    tracker: str  # soft-dirty | write-protect | content-hash
    sequence: int  # counts the intents of a chain, from 1
    states: dict[str, bytes]  # by mm key; empty in an intent


@record("journal")
class JournalRecord:
    """The last state that a committed image resolved, and the intent of a round that has not yet."""

    image_id: bytes | None  # the image that resolved `last`
    last: TrackerState | None
    intent: TrackerState | None
