"""Files with a name that serve the tree alone: they are given what was in them, and made again when they are gone.

Shared memory and semaphores by name (shm_open, sem_open) are memory: after a snapshot the original wrote in them, and
they end with the boot. What a process maps under its own pid is removed by others once it has ended: a new JVM does
so with the counters of those before it.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from ckpt.errors import RestoreError
from ckpt.records.file_kinds import GhostFile, GhostRecord
from ckpt.records.files import FileRecord
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files import ghost, paths, regular
from ckpt.state.files.base import FileView

SUPPORT = Support(
    "files",
    "files of the tree's own",
    "POSIX shared memory and semaphores (of any size when mapped), and what a task maps under the name of its pid (the "
    "counters of a JVM; up to `--ghost-limit`): with what was in them at the dump, or as they are where a process "
    "outside has them open, too, or the tree only reads them; made again when they are gone",
)

_SHM = "/dev/shm/"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def note(view: FileView, context: CollectContext) -> None:
    """Let the contents travel, if the file is one of these."""
    st = view.stat
    shared = view.link.startswith(_SHM)
    if not stat.S_ISREG(st.st_mode) or not (shared or _counters(view)):
        return
    key = f"{st.st_dev}:{st.st_ino}"
    mapped = shared and (st.st_ino, view.link) in context.shared.get("mm:mapped", ())
    noted: set[str] = context.shared.setdefault("ghost:keys", set())
    if key in noted or not (mapped or st.st_size <= context.options.ghost_limit):
        return
    if not paths.reachable(view.link, st):
        return
    noted.add(key)
    context.records.append(ghost.record_of(view, key, view.link))
    if mapped:  # its pages travel as pages
        context.shared.setdefault("contents", {})[ghost.space(key)] = view.file_id
    else:
        context.records.extend(ghost.contents(view, key))


def _counters(view: FileView) -> bool:
    """A file named after the task, which maps it for writing: the link in map_files has the mode of its description."""
    if "/map_files/" not in view.magic or Path(view.link).name != str(view.pid):
        return False
    return bool(os.lstat(view.magic).st_mode & stat.S_IWUSR)


def names(context: RestoreContext) -> frozenset[str]:
    """Those that `put_back` may make or fill; and of files that were deleted."""
    return frozenset(record.path for record in context.view.records("ghost"))


def put_back(context: RestoreContext) -> None:
    """Fill those that the tree writes in and nobody has open, and make those that are gone."""
    files: Sequence[FileRecord] = context.view.records("file")
    named: dict[str, bool] = {}  # and whether the tree can write in it
    for file in files:
        if file.kind == regular.KIND.kind:
            writes = file.flags & (os.O_ACCMODE | os.O_PATH) in (os.O_WRONLY, os.O_RDWR)
            named[file.payload.path] = named.get(file.payload.path, False) or writes
    deleted = {file.payload.key for file in files if isinstance(file.payload, GhostFile)}  # maybe under such a name
    for kept in context.view.records("ghost"):
        if kept.path not in named or kept.key in deleted:
            continue
        if not named[kept.path] and os.path.lexists(kept.path):
            continue  # a program, or what others wrote: it is as they left it
        try:
            _put_back(kept, context)
        except PermissionError:
            continue  # whether the task may open it will show
        except OSError as error:
            raise _failed(kept, error) from None


def _put_back(kept: GhostRecord, context: RestoreContext) -> None:
    with ExitStack() as stack:
        directory = _directory(kept, stack)
        name = Path(kept.path).name
        try:
            fd = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        except FileNotFoundError:
            _make(name, directory, kept, context)
            context.notes.append(f"{kept.path} was gone, and was made again as it was at the dump")
            return
        stack.callback(os.close, fd)
        found = os.fstat(fd)
        if stat.S_ISREG(found.st_mode) and _alone(fd):
            if found.st_uid != kept.uid:
                raise RestoreError(
                    f"{kept.path} is another user's now: its owner was {kept.uid} at the dump and is {found.st_uid}",
                    hint="remove it, if it is not needed: then it is made again as it was",
                )
            os.ftruncate(fd, 0)
            _fill(fd, kept, context)


def _directory(kept: GhostRecord, stack: ExitStack) -> int:
    """Where the file is; the last directory is made if it is gone.

    The kernel told the path, so nothing in it was a symbolic link: what is one now may be a trap of another user's.
    """
    path = Path(kept.path).parent
    fd = os.open("/", _DIRECTORY)
    stack.callback(os.close, fd)
    for number, name in enumerate(path.parts[1:], 2):
        try:
            below = os.open(name, _DIRECTORY | os.O_PATH, dir_fd=fd)
        except FileNotFoundError:
            if number < len(path.parts):
                raise
            os.mkdir(name, 0o755, dir_fd=fd)
            below = os.open(name, _DIRECTORY, dir_fd=fd)
            os.fchown(below, kept.uid, kept.gid)
        fd = below
        stack.callback(os.close, fd)
    return fd


def _failed(kept: GhostRecord, error: OSError) -> RestoreError:
    return RestoreError(
        f"{kept.path} cannot have its contents again: {error.strerror}",
        hint="put the file back as it was at the dump, or free some space",
    )


def _alone(fd: int) -> bool:
    """Whether no other description of the file is open or mapped, in any namespace: else there is no lease of it."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return False
    return True


def _make(name: str, directory: int, kept: GhostRecord, context: RestoreContext) -> None:
    fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        os.fchown(fd, kept.uid, kept.gid)
        os.fchmod(fd, stat.S_IMODE(kept.mode))
        _fill(fd, kept, context)
    except OSError:
        os.unlink(name, dir_fd=directory)
        raise
    finally:
        os.close(fd)


def _fill(fd: int, kept: GhostRecord, context: RestoreContext) -> None:
    os.ftruncate(fd, kept.size)
    ghost.fill(fd, kept, context)
    os.utime(fd, ns=(kept.atime_ns, kept.mtime_ns))
