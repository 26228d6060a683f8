"""The records of open file descriptions and of the tables that hold them.

A `FileRecord` is one open file description, shared by every descriptor that refers to it. Its `kind` names
the module in `ckpt.state.files` that collects and restores it; `payload` is that module's own record.
"""

from __future__ import annotations

from dataclasses import dataclass

import ckpt.records.file_kinds  # noqa: F401  # registers the payloads, wherever an image is read
from ckpt.records.base import Record, record


@record("file")
class FileRecord:
    """One open file description."""

    file_id: int  # unique in the image, from 1
    kind: str  # "regular", "pipe", "eventfd", "unix", …: the key of a FileKind
    flags: int  # O_* as fcntl(F_GETFL) gives them
    pos: int
    payload: Record  # the kind's own record
    owner_type: int = 0  # F_GETOWN_EX: F_OWNER_TID, _PID, _PGRP
    owner_pid: int = 0
    owner_sig: int = 0  # F_GETSIG
    rw_hint: int = 0  # F_GET_RW_HINT of a regular file
    owner_uids: tuple[int, ...] = ()  # F_GETOWNER_UIDS: real and effective, by which the signals are permitted
    name: str = ""  # what /proc/PID/fd/N said: a path, "pipe:[4711]"
    socket_owner: tuple[int, ...] = ()  # user and group of a socket, by which ports are shared and packets filtered


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One entry of a descriptor table."""

    fd: int
    file_id: int
    cloexec: bool


@record("fd-table")
class FdTable:
    """One descriptor table; tasks that share it (CLONE_FILES) name the same `table_id`."""

    table_id: int  # pid (of a thread: tid) of the first that uses it
    fds: tuple[Descriptor, ...]
