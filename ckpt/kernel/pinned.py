"""Pages that the kernel has pinned: it may write to them past the page tables, and no dirty bit tells of it."""

from __future__ import annotations

from collections.abc import Iterable

from ckpt.kernel.procfs import read_bytes
from ckpt.kernel.standins import entry

_RINGS = {"anon_inode:[io_uring]": "io_uring", "/[aio] (deleted)": "Linux AIO"}  # as /proc/PID/maps has them
_PINNED = b"\nVmPin:"


def is_ring(path: str) -> bool:
    """Whether a mapping of this path is a ring of io_uring or of Linux AIO."""
    return path in _RINGS


def why(pid: int, rings: Iterable[str]) -> str | None:
    """Why pages of a task may be written unseen from now on; None when none are pinned. `rings`: paths of its rings.

    VmPin counts what was pinned for long (buffers registered with io_uring, RDMA). Direct reads that are under way are
    counted nowhere: where there is a ring there may be some.
    """
    for ring in rings:
        return f"reads by {_RINGS[ring]} may have been under way in the last round, which no dirty bit shows"
    _, found, rest = read_bytes(f"/proc/{entry(pid)}/status", pid).partition(_PINNED)
    if found and int(rest.split(None, 1)[0]):
        return "pages were pinned in the last round (VmPin), and no dirty bit shows what is written to them"
    return None
