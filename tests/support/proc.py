"""Looks at processes that are not ours alone: parents, sessions, who is dead, and whose children orphans become."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path


def become_subreaper(on: bool = True) -> None:
    """Orphans of the targets, and trees that a restore has let go of, become children of this process."""
    if ctypes.CDLL(None, use_errno=True).prctl(36, int(on), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")


def parent_and_session(pid: int) -> tuple[int, int, str] | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[1]), int(fields[3]), fields[0]


def is_dead(pid: int) -> bool:
    """Gone, or a zombie without a thread that lives on."""
    about = parent_and_session(pid)
    if about is None or about[2] != "Z":
        return about is None
    try:
        return len(os.listdir(f"/proc/{pid}/task")) <= 1
    except OSError:
        return True


def processes() -> Iterator[int]:
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            yield int(entry)
