"""Mounts: of ckpt's own, that no path leads to; and those of other mount namespaces."""

from __future__ import annotations

import os
import struct

from ckpt.kernel import procfs, uapi_files
from ckpt.kernel.libc import syscall

_MADE_AGAIN = ("proc", "devpts")  # by a restore, in a mount namespace of its own


def writable_copy(directory: str) -> int:
    """A descriptor of the directory in a mount of its own, which is not read-only though the one at the path is."""
    flags = uapi_files.OPEN_TREE_CLONE | os.O_CLOEXEC
    path = os.fsencode(directory) + b"\0"
    fd = syscall(f"open_tree({directory})", uapi_files.SYS_open_tree, uapi_files.AT_FDCWD, path, flags)
    attributes = struct.pack("<QQQQ", 0, uapi_files.MOUNT_ATTR_RDONLY, 0, 0)  # struct mount_attr: set, clear, …
    syscall(
        f"mount_setattr({directory})", uapi_files.SYS_mount_setattr, fd, b"\0", uapi_files.AT_EMPTY_PATH, attributes,
        len(attributes),
    )  # fmt: skip
    return fd


def not_ours(tid: int) -> list[str]:
    """Where a task's mount namespace has something mounted that ckpt's has not, but for /proc and terminals."""
    ours = _mounts(os.getpid())
    return sorted({place for place, what in _mounts(tid) if (place, what) not in ours and what[0] not in _MADE_AGAIN})


def _mounts(tid: int) -> set[tuple[str, tuple[str, str, str]]]:
    """The mount points as /proc writes them, each with what is there: type, device, directory of it."""
    found = set()
    for line in procfs.read_bytes(f"/proc/{tid}/mountinfo", tid).decode("utf-8", "surrogateescape").splitlines():
        fields, _, rest = line.partition(" - ")
        _, _, device, directory, place = fields.split()[:5]
        found.add((place, (rest.split()[0], device, directory)))
    return found
