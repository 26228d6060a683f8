"""Opening a file by its path, and the errors that say what became of it."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable
from typing import TypeVar

from ckpt.errors import FileChanged, RestoreError
from ckpt.kernel import uapi_files

T = TypeVar("T")

ONCE = os.O_CREAT | os.O_EXCL | os.O_TRUNC | os.O_NOCTTY | os.O_ASYNC | uapi_files.O_TMPFILE_BIT
"""Flags that belong to the first open alone, or are set with F_SETFL afterwards."""

DELETED = " (deleted)"


def open_path(path: str, flags: int) -> int:
    """Open by path, close-on-exec, without what belongs to the first open; FileChanged when it is gone."""
    if flags & uapi_files.O_TMPFILE_BIT:  # it has a name by now; O_TMPFILE includes O_DIRECTORY
        flags &= ~os.O_DIRECTORY
    flags &= ~ONCE
    try:
        return os.open(path, flags | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise FileChanged(
                f"{path} is gone, but the task has it open", hint="put the file back as it was at the dump"
            ) from None
        raise cannot_open(path, error) from None


def reopen(fd: int, flags: int) -> int:
    """A new description of the file behind one of ckpt's own descriptors."""
    path = f"/proc/self/fd/{fd}"
    try:
        return os.open(path, flags & ~(ONCE | os.O_DIRECTORY | os.O_NOFOLLOW) | os.O_CLOEXEC)
    except OSError as error:
        raise cannot_open(path, error) from None


def cannot_open(path: str, error: OSError) -> RestoreError:
    """The RestoreError for a failed open."""
    return RestoreError(f"{path} cannot be opened: {error.strerror}", hint="run ckpt as a user who may open the file")


def reachable(path: str, found: os.stat_result) -> bool:
    """Whether the path leads to this very file, seen from ckpt."""
    try:
        here = os.lstat(path) if stat.S_ISLNK(found.st_mode) else os.stat(path)
    except OSError:
        return False
    return (here.st_dev, here.st_ino) == (found.st_dev, found.st_ino)


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

    When that is in use, or its directory is gone, a name beside it that nobody uses. `make` must fail with
    FileExistsError where something stands.
    """
    directory = standing(path)
    beside = os.path.join(directory, f".{os.path.basename(path)[:200]}.{secrets.token_hex(6)}")
    for name in (path, beside) if directory == (os.path.dirname(path) or "/") else (beside,):
        try:
            made = make(name)
        except FileExistsError:
            continue
        remove(name)
        return made
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
