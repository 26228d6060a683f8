"""By what an open file is opened again when the name that /proc shows does not lead to it.

It was deleted under that name but has another, or a mount hides it, or it is a bare inode of a file system: then its
file handle is kept, which is good for as long as the inode lives, on this host.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from ckpt.errors import FileChanged, KernelError, RestoreError
from ckpt.kernel import handles, procfs, uapi_files
from ckpt.records.file_kinds import Handle
from ckpt.state.context import CollectContext
from ckpt.state.files import paths, watched
from ckpt.state.files.base import FileView
from ckpt.state.files.registry import registry

_NAMES_LOOKED_AT = 4096


def other_name(view: FileView, context: CollectContext) -> str | None:
    """A name of a file that is not deleted: one that the tree has open, that its handle tells, or that lies near."""
    found = view.stat
    for other in registry(context).views.values():
        same = (other.stat.st_dev, other.stat.st_ino) == (found.st_dev, found.st_ino)
        if same and other is not view and paths.reachable(other.link, found):
            return other.link
    for _handle, known in _by_handle(view):
        if paths.reachable(known, found):
            return known
    seen: dict[tuple[int, int], str] = context.shared.setdefault("names:near", {})
    path = seen.get((found.st_dev, found.st_ino)) or _near(paths.without_deleted(view.link), found)
    if path is not None:
        seen[found.st_dev, found.st_ino] = path
    return path


def handle_of(view: FileView) -> Handle | None:
    """The handle by which this user can open the file again; None without the right to, or where there is none."""
    return next((handle for handle, _path in _by_handle(view)), None)


def open_handle(handle: Handle, path: str, flags: int) -> int:
    """Open what `handle_of` gave; `path` is for messages. FileChanged when it is gone."""
    try:
        return handles.open_by_handle(handle.mount, handle.kind, handle.data, paths.later(flags))
    except KernelError as error:
        if error.errno in (errno.ESTALE, errno.ENOENT):
            raise FileChanged(
                f"{path} is gone, but the task has it open",
                hint="restore on the host of the dump, while the file still has a name",
            ) from None
        raise RestoreError(f"{path} cannot be opened by its handle: {error.message}", hint="run ckpt as root") from None


def _by_handle(view: FileView) -> Iterator[tuple[Handle, str]]:
    """(handle, the path that it leads to), tried out, for each mount of the file system."""
    found = handles.name_to_handle(view.proc_path)
    if found is None:
        return
    for mount in _mounts(view):
        try:
            fd = handles.open_by_handle(mount, *found, uapi_files.O_PATH | os.O_NOFOLLOW)
        except KernelError:
            continue
        try:
            if _same(os.fstat(fd), view.stat):
                yield Handle(mount, *found), os.readlink(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)


def _mounts(view: FileView) -> Iterator[str]:
    """Where this process sees the file system of a file."""
    lines = procfs.read_bytes("/proc/self/mountinfo", os.getpid()).decode("utf-8", "surrogateescape").splitlines()
    device = f"{os.major(view.stat.st_dev)}:{os.minor(view.stat.st_dev)}"
    for line in lines:
        number, _parent, dev, _root, point = line.split()[:5]
        if dev == device or number in view.info.get("mnt_id", ()):
            yield watched.mount_point(point)


def _near(path: str, found: os.stat_result) -> str | None:
    """A name in the nearest directory of the old one that stands, or around it: as far as a few thousand names go."""
    top, below, looked_at = paths.standing(path), "", 0
    while looked_at <= _NAMES_LOOKED_AT and os.lstat(top).st_dev == found.st_dev:
        for parent, folders, files in os.walk(top):
            if below in (whole := [os.path.join(parent, folder) for folder in folders]):
                del folders[whole.index(below)]
            for name in files:
                full = os.path.join(parent, name)
                try:
                    if _same(os.lstat(full), found):
                        return full
                except OSError:
                    continue
            looked_at += len(files) + len(folders)
            if looked_at > _NAMES_LOOKED_AT:
                return None
        if top == "/":
            break
        below, top = top, os.path.dirname(top)
    return None


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
