"""Opening a file by its path, and the errors that say what became of it."""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from ckpt.errors import FileChanged, KernelError, RestoreError, limit_hint
from ckpt.kernel import mounts, uapi_files
from ckpt.kernel.libc import syscall

T = TypeVar("T")

ONCE = os.O_CREAT | os.O_EXCL | os.O_TRUNC | os.O_NOCTTY | os.O_ASYNC | uapi_files.O_TMPFILE_BIT
"""Flags that belong to the first open alone, or are set with F_SETFL afterwards."""

DELETED = " (deleted)"
_AT_FDCWD = -100


def open_path(path: str, flags: int) -> int:
    """Open by path, close-on-exec, without what belongs to the first open; FileChanged when it is gone."""
    try:
        return os.open(path, later(flags) | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise FileChanged(
                f"{path} is gone, but the task has it open", hint="put the file back as it was at the dump"
            ) from None
        raise cannot_open(path, error) from None


def later(flags: int) -> int:
    """Flags without what belongs to the first open."""
    if flags & uapi_files.O_TMPFILE_BIT:  # it has a name by now; O_TMPFILE includes O_DIRECTORY
        flags &= ~os.O_DIRECTORY
    return flags & ~ONCE


def reopen(fd: int, flags: int) -> int:
    """A new description of the file behind one of ckpt's own descriptors."""
    path = f"/proc/self/fd/{fd}"
    try:
        return os.open(path, flags & ~(ONCE | os.O_DIRECTORY | os.O_NOFOLLOW) | os.O_CLOEXEC)
    except OSError as error:
        raise cannot_open(path, error) from None


def cannot_open(path: str, error: OSError) -> RestoreError:
    """The RestoreError for a failed open."""
    hint = limit_hint(error.errno) or "run ckpt as a user who may open the file"
    return RestoreError(f"{path} cannot be opened: {error.strerror}", hint=hint)


def reachable(path: str, found: os.stat_result) -> bool:
    """Whether the path leads to this very file, seen from ckpt."""
    try:
        here = os.lstat(path) if stat.S_ISLNK(found.st_mode) else os.stat(path)
    except OSError:
        return False
    return (here.st_dev, here.st_ino) == (found.st_dev, found.st_ino)


def immutable(path: str) -> bool:
    """Whether nobody at all may open the file for writing (chattr +i)."""
    try:
        syscall("access", uapi_files.SYS_access, ctypes.create_string_buffer(os.fsencode(path)), os.W_OK)
    except KernelError as error:
        return error.errno == errno.EPERM  # where rights are missing it is EACCES
    return False


def append_only(path: str) -> bool:
    """Whether the file can be opened for writing with O_APPEND alone, and mapped for it by nobody (chattr +a)."""
    name, found = os.fsencode(path), ctypes.create_string_buffer(uapi_files.STATX_SIZE)
    try:
        syscall("statx", uapi_files.SYS_statx, _AT_FDCWD, ctypes.create_string_buffer(name), 0, 0, found)
    except KernelError:
        return False
    return bool(uapi_files.statx_head.unpack_from(found.raw)[2] & uapi_files.STATX_ATTR_APPEND)


def without_deleted(link: str) -> str:
    """The path in front of the " (deleted)" that readlink adds."""
    return link.removesuffix(DELETED)


def standing(path: str) -> str:
    """The nearest directory above `path` that exists."""
    directory = os.path.dirname(path) or "/"
    while not os.path.isdir(directory):
        directory = os.path.dirname(directory)
    return directory


def make_nameless(path: str, make: Callable[[str], T], remove: Callable[[str], None]) -> T:
    """What `make` makes under a name that `remove` takes away at once: the old path, for /proc shows it ever after.

    Directories above it that are gone, too, stand for that moment. When the name is in use, one beside it that nobody
    uses. `make` must fail with FileExistsError where something stands. A mount that is read-only by now is got round.
    """
    with _directories(os.path.dirname(path) or "/") as (directory, whole):
        beside = os.path.join(directory, f".{os.path.basename(path)[:200]}.{secrets.token_hex(6)}")
        if os.statvfs(directory).f_flag & os.ST_RDONLY:
            with _writable(directory) as there:
                made = make(os.path.join(there, os.path.basename(beside)))
                remove(os.path.join(there, os.path.basename(beside)))
                return made
        for name in (path, beside) if whole else (beside,):
            try:
                made = make(name)
            except FileExistsError:
                continue
            remove(name)
            return made
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)


@contextmanager
def _writable(directory: str) -> Iterator[str]:
    """The directory in a mount of ckpt's own; OSError when that is read-only, too."""
    try:
        fd = mounts.writable_copy(directory)
    except KernelError as error:
        raise OSError(error.errno, error.message) from None
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


@contextmanager
def _directories(directory: str) -> Iterator[tuple[str, bool]]:
    """(directory, True), made for the moment where it is gone; else (the nearest one that stands, False)."""
    missing = []
    while not os.path.isdir(directory):
        missing.append(directory)
        directory = os.path.dirname(directory)
    made: list[str] = []
    try:
        try:
            for one in reversed(missing):
                os.mkdir(one, 0o700)
                made.append(one)
        except OSError:  # a file has the name, or this user may not
            pass
        yield made[-1] if made else directory, len(made) == len(missing)
    finally:
        for one in reversed(made):
            os.rmdir(one)


def extended_attributes(path: str) -> tuple[tuple[str, bytes], ...]:
    """(name, value) of each extended attribute but for labels, which the host's own policy gives."""
    found: list[tuple[str, bytes]] = []
    try:
        for name in os.listxattr(path):
            if not name.startswith("security.") or name == "security.capability":
                found.append((name, os.getxattr(path, name)))
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.ENODATA):
            raise KernelError(f"extended attributes of {path}: {error.strerror}", errno=error.errno or 0) from None
    return tuple(found)
