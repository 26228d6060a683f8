"""File handles: an inode of a file system, found again without a path, whatever hides or renames it."""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from ckpt.errors import KernelError
from ckpt.kernel import uapi_files
from ckpt.kernel.libc import syscall

_HEAD = struct.Struct("<Ii")  # struct file_handle: handle_bytes, handle_type


def name_to_handle(path: str) -> tuple[int, bytes] | None:
    """(type, bytes) of what a path or magic link leads to; None where the file system has no handles."""
    buffer = ctypes.create_string_buffer(_HEAD.pack(uapi_files.MAX_HANDLE_SZ, 0), _HEAD.size + uapi_files.MAX_HANDLE_SZ)
    mount = ctypes.c_int()
    try:
        syscall(
            f"name_to_handle_at({path})", uapi_files.SYS_name_to_handle_at, uapi_files.AT_FDCWD,
            os.fsencode(path) + b"\0", buffer, ctypes.byref(mount), uapi_files.AT_SYMLINK_FOLLOW,
        )  # fmt: skip
    except KernelError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EOVERFLOW, errno.ENOSYS, errno.EPERM, errno.ESTALE):
            return None
        raise
    length, kind = _HEAD.unpack_from(buffer.raw)
    return kind, buffer.raw[_HEAD.size : _HEAD.size + length]


def open_by_handle(mount: str, kind: int, handle: bytes, flags: int) -> int:
    """A close-on-exec descriptor of the inode, found in the file system that is mounted at `mount`.

    Needs CAP_DAC_READ_SEARCH. ESTALE: there is no such inode any more.
    """
    try:
        at = os.open(mount, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError(f"opening {mount}: {error.strerror}", errno=error.errno or 0) from None
    try:
        packed = _HEAD.pack(len(handle), kind) + handle
        buffer = ctypes.create_string_buffer(packed, len(packed))
        name = "open_by_handle_at"
        return syscall(name, uapi_files.SYS_open_by_handle_at, at, buffer, flags | os.O_CLOEXEC)
    finally:
        os.close(at)
