"""Finding the files that notification groups watch, from what fdinfo says of an inode."""

from __future__ import annotations

import ctypes
import os
import re
import stat
import struct
from collections.abc import Iterator
from itertools import chain, islice, zip_longest

from ckpt.errors import KernelError
from ckpt.kernel import procfs, standins, uapi_files
from ckpt.kernel.libc import syscall
from ckpt.state.context import CollectContext
from ckpt.state.files import paths
from ckpt.state.files.base import FileView
from ckpt.state.files.registry import registry

_LOOKED_AT = 20_000  # names, when there is no handle to open: some tens of milliseconds


def find(context: CollectContext, view: FileView, values: dict[str, str]) -> tuple[str, int] | None:
    """(path, 0), or ("", file_id) of a file without a name that the tree has open. `values`: ino, sdev, f_handle …"""
    pid = view.in_flight_of or view.pid
    dev, ino = int(values["sdev"], 16), int(values["ino"], 16)
    path = _by_handle(context, pid, dev, ino, values)
    if path is not None:
        return path, 0
    device = os.makedev(dev >> 20, dev & 0xFFFFF)
    for other in registry(context).views.values():
        if (other.stat.st_dev, other.stat.st_ino) == (device, ino) and not other.magic:
            if paths.reachable(other.link, other.stat):
                return other.link, 0
            return "", other.file_id
    path = _by_looking(context, pid, dev, device, ino)
    return (path, 0) if path is not None else None


def mounts(context: CollectContext, pid: int) -> dict[int, list[str]]:
    """The device of a file system as fdinfo prints it -> its mount points."""
    known: dict[int, list[str]] | None = context.shared.get("watched:mounts")
    if known is None:
        known = context.shared["watched:mounts"] = {}
        text = procfs.read_bytes(f"/proc/{standins.entry(pid)}/mountinfo", pid).decode("utf-8", "surrogateescape")
        for line in text.splitlines():
            f = line.split()
            major, _, minor = f[2].partition(":")
            known.setdefault(int(major) << 20 | int(minor), []).append(mount_point(f[4]))
    return known


def mount_point(escaped: str) -> str:
    """A path as mountinfo writes it, with its octal escapes undone."""
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), escaped)


def _by_handle(context: CollectContext, pid: int, dev: int, ino: int, values: dict[str, str]) -> str | None:
    handle = bytes.fromhex(values.get("f_handle", ""))
    if not handle:
        return None
    # struct file_handle
    packed = struct.pack("<Ii", len(handle), int(values["fhandle-type"], 16)) + handle
    for mount in mounts(context, pid).get(dev, []):  # a bind mount may show only a part
        path = _path_below(mount, packed, ino)
        if path is not None:
            return path
    return None


def _path_below(mount: str, handle: bytes, inode: int) -> str | None:
    at = fd = -1
    try:
        at = os.open(mount, os.O_RDONLY | os.O_CLOEXEC)
        buffer = ctypes.create_string_buffer(handle, len(handle))
        flags = uapi_files.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = syscall("open_by_handle_at", uapi_files.SYS_open_by_handle_at, at, buffer, flags)
        path = os.readlink(f"/proc/self/fd/{fd}")
        found = os.fstat(fd)
        return path if found.st_ino == inode and paths.reachable(path, found) else None
    except (OSError, KernelError):
        return None
    finally:
        for one in (at, fd):
            if one >= 0:
                os.close(one)


def _by_looking(context: CollectContext, pid: int, dev: int, device: int, ino: int) -> str | None:
    """Where handles cannot be opened (overlayfs): a look around the places that the tree uses, and below the mount.

    By turns: one that is full of files takes nothing from the others.
    """
    tops = dict.fromkeys(_places(context, pid, dev))
    names: Iterator[str | None] = chain.from_iterable(zip_longest(*map(_names_below, tops)))
    for path in islice(filter(None, names), _LOOKED_AT):
        try:
            found = os.lstat(path)
        except OSError:
            continue
        if (found.st_dev, found.st_ino) == (device, ino):
            return path
    return None


def _places(context: CollectContext, pid: int, dev: int) -> Iterator[str]:
    for task in context.tasks:
        try:
            yield os.readlink(f"/proc/{standins.entry(task.pid)}/cwd")
        except OSError:
            continue
    for view in list(registry(context).views.values()):
        if stat.S_ISREG(view.stat.st_mode) and view.link.startswith("/") and not view.magic:
            yield os.path.dirname(view.link)
    yield from mounts(context, pid).get(dev, [])


def _names_below(top: str) -> Iterator[str]:
    """The directory itself, then what is in it, level by level."""
    yield top
    level = [top]
    while level:
        deeper = []
        for directory in level:
            try:
                with os.scandir(directory) as entries:
                    found = list(entries)
            except OSError:
                continue
            for entry in found:
                yield entry.path
                if entry.is_dir(follow_symlinks=False):
                    deeper.append(entry.path)
        level = deeper
