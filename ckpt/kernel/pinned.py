"""Pages that the kernel has pinned: it may write to them past the page tables, and no dirty bit tells of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress

from ckpt.kernel.procfs import read_bytes
from ckpt.kernel.standins import entry

IO_URING = "anon_inode:[io_uring]"
_RINGS = {IO_URING: "io_uring", "/[aio] (deleted)": "Linux AIO"}  # as /proc/PID/maps has them
_PROTOCOL = "system.sockprotoname"
_PINNED = b"\nVmPin:"
_HARMLESS = frozenset({1, 4, 5, *range(136, 144)})  # majors of memory devices and of terminals: devices.txt


def is_ring(path: str) -> bool:
    """Whether a mapping of this path is a ring of io_uring or of Linux AIO."""
    return path in _RINGS


def why(pid: int, rings: Iterable[str]) -> str | None:
    """Why pages of a task may be written unseen from now on; None when none are pinned. `rings`: paths of its rings.

    VmPin counts what was pinned for long (buffers registered with io_uring, RDMA). Direct reads that are under way are
    counted nowhere: where there is a ring there may be some. See `holder`, too.
    """
    for ring in rings:
        return f"reads by {_RINGS[ring]} may have been under way in the last round, which no dirty bit shows"
    _, found, rest = read_bytes(f"/proc/{entry(pid)}/status", pid).partition(_PINNED)
    if found and int(rest.split(None, 1)[0]):
        return "pages were pinned in the last round (VmPin), and no dirty bit shows what is written to them"
    return None


def holder(pid: int) -> str | None:
    """The same from the descriptors of a task: what they pin is in no mapping of their own, and VmPin leaves it out.

    These are rings of io_uring in the task's own memory (IORING_SETUP_NO_MMAP), XDP sockets, and devices: a camera
    reads into the program's buffers (V4L2_MEMORY_USERPTR), with VFIO any device does. To look at every descriptor takes
    too long for a freeze: it is asked before and after one.
    """
    directory = f"/proc/{entry(pid)}/fd"
    with suppress(OSError):
        for name in os.listdir(directory):
            with suppress(OSError):  # closed meanwhile, or not to be looked at
                link = os.readlink(f"{directory}/{name}")
                if link == IO_URING:
                    return "io_uring may have written in the last round to what it had pinned, which no dirty bit shows"
                if link.startswith("socket:") and os.getxattr(f"{directory}/{name}", _PROTOCOL) == b"XDP\0":
                    return "an XDP socket may have written in the last round to its memory, which no dirty bit shows"
                if link.startswith("/dev/") and _may_pin(os.stat(f"{directory}/{name}")):
                    return f"a device ({link}) may have written in the last round to memory, which no dirty bit shows"
    return None


def _may_pin(node: os.stat_result) -> bool:
    return stat.S_ISCHR(node.st_mode) and os.major(node.st_rdev) not in _HARMLESS
