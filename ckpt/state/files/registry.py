"""What a collection knows of the open files of the tree, for kinds that look at other files."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from ckpt.state.context import CollectContext
from ckpt.state.files.base import FileView

_KEY = "files:registry"
Group = tuple[int, int, int, int, str]


@dataclass
class Registry:
    """What is known of the open files of the tree, for the length of the freeze."""

    next_id: int = 1
    groups: dict[Group, list[FileView]] = field(default_factory=dict)  # each sorted by kcmp's order
    views: dict[int, FileView] = field(default_factory=dict)  # by file_id
    tables: dict[int, int] = field(
        default_factory=dict
    )  # pid, or tid of a thread with another table than its process -> table_id
    by_number: dict[int, tuple[Group, FileView]] = field(default_factory=dict)  # last seen at this number
    sorted_tables: list[int] = field(default_factory=list)  # table_ids in kcmp's order
    numbers: dict[tuple[int, int], int] = field(default_factory=dict)  # (table_id, fd) -> file_id
    mapped: dict[tuple[int, int, int, str], int] = field(default_factory=dict)  # dev, ino, flags, link
    mapped_same: dict[tuple[Hashable, int], int] = field(default_factory=dict)
    payload_done: set[int] = field(default_factory=set)


def registry(context: CollectContext) -> Registry:
    """The registry of this collection; kinds look up other descriptions in it."""
    found = context.shared.get(_KEY)
    if not isinstance(found, Registry):
        found = context.shared[_KEY] = Registry()
    return found
