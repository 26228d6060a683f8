"""Files with a name that serve the tree alone, and are made again when they are gone at the restore.

Shared memory by name (shm_open) ends with the boot. What a process maps under its own pid is removed by others once
it has ended: a new JVM does so with the counters of those before it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from ckpt.errors import RestoreError
from ckpt.records.file_kinds import GhostData, GhostFile, GhostRecord
from ckpt.records.files import FileRecord
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files import ghost, paths, regular
from ckpt.state.files.base import FileView

SUPPORT = Support(
    "files",
    "files of the tree's own",
    "POSIX shared memory, and what a task maps under the name of its pid (the counters of a JVM): as they are, or made "
    "again with their contents (up to `--ghost-limit`) when they are gone",
)

_SHM = "/dev/shm/"


def note(view: FileView, context: CollectContext) -> None:
    """Let the contents travel, if the file is one of these."""
    st = view.stat
    own = view.magic and os.path.basename(view.link) == str(view.pid)
    if not stat.S_ISREG(st.st_mode) or not (own or view.link.startswith(_SHM)):
        return
    key = f"{st.st_dev}:{st.st_ino}"
    noted: set[str] = context.shared.setdefault("ghost:keys", set())
    if key in noted or st.st_size > context.options.ghost_limit or not paths.reachable(view.link, st):
        return
    noted.add(key)
    context.records.append(ghost.record_of(view, key, view.link))
    context.records.extend(ghost.contents(view, key))


def put_back(context: RestoreContext) -> None:
    """Make those that are gone; those that are there stay as they are."""
    files: Sequence[FileRecord] = context.view.records("file")
    named = {file.payload.path for file in files if file.kind == regular.KIND.kind}
    deleted = {file.payload.key for file in files if isinstance(file.payload, GhostFile)}  # maybe under such a name
    for kept in context.view.records("ghost"):
        if kept.path in named and kept.key not in deleted and not os.path.lexists(kept.path):
            parts = [part for part in context.view.records("ghost-data") if part.key == kept.key]
            _make(kept, parts)
            context.notes.append(f"{kept.path} was gone, and was made again as it was at the dump")


def _make(kept: GhostRecord, parts: Sequence[GhostData]) -> None:
    owner = (kept.uid, kept.gid)
    try:
        directory = os.path.dirname(kept.path)
        if not os.path.isdir(directory):
            os.mkdir(directory, 0o755)
            os.chown(directory, *owner)
        fd = os.open(kept.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, kept.size)
            for part in parts:
                ghost.write(fd, part.offset, part.data)
            os.fchown(fd, *owner)
            os.fchmod(fd, stat.S_IMODE(kept.mode))
            os.utime(fd, ns=(kept.atime_ns, kept.mtime_ns))
        except OSError:
            Path(kept.path).unlink()
            raise
        finally:
            os.close(fd)
    except OSError as error:
        raise RestoreError(
            f"{kept.path} is gone, and cannot be made again: {error.strerror}",
            hint="put the file back, or free some space",
        ) from None
