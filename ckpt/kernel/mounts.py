"""Mounts of ckpt's own, that no path leads to."""

from __future__ import annotations

import os
import struct

from ckpt.kernel import uapi_files
from ckpt.kernel.libc import syscall


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
