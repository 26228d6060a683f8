"""Files that root makes in a directory of somebody else: they are that user's, who is to go on with them.

They are made as that user would make them, so that no link that he lays leads root elsewhere; on a thread of its own,
for in a user namespace a thread may have no way back to the user that it was.
"""

from __future__ import annotations

import os
import pwd
import threading
from dataclasses import dataclass
from pathlib import Path

from ckpt.errors import KernelError, NoSuchTask
from ckpt.kernel import procfs, taskinfo, uapi
from ckpt.kernel.libc import syscall


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a directory is."""

    uid: int
    gid: int

    def open(self, path: Path, flags: int) -> int:
        """open(2) as this user, close-on-exec, of a file with mode 0600; as ourselves where he cannot."""
        found: list[int] = []
        thread = threading.Thread(target=self._open, args=(path, flags, found), name="ckpt-owner")
        thread.start()
        thread.join()
        return found[0] if found else os.open(path, flags | os.O_CLOEXEC, 0o600)

    def _open(self, path: Path, flags: int, found: list[int]) -> None:
        try:
            syscall("setfsgid", uapi.SYS_setfsgid, self.gid)
            syscall("setfsuid", uapi.SYS_setfsuid, self.uid)
            found.append(os.open(path, flags | os.O_CLOEXEC, 0o600))
        except (KernelError, OSError):
            return  # the caller tries it, and says why it fails

    def may_read(self, pid: int) -> bool:
        """Whether a task holds nothing that this user may not see."""
        found = owner_of(pid)
        return found is not None and found[0] == self.uid and found[1] in (self.gid, _group_of(self.uid))


def owner_of(pid: int) -> tuple[int, int] | None:
    """The uid and gid of a user who may trace the task: it has no others, and no privileges; None: it is root's."""
    try:
        ids = taskinfo.ids(procfs.status(pid))
        if len(set(ids.uids)) > 1 or len(set(ids.gids)) > 1 or ids.cap_prm or not ids.uids[0]:
            return None
        if not dumpable(pid, ids.uids[0]):
            return None
    except (KernelError, NoSuchTask, OSError):
        return None
    return ids.uids[0], ids.gids[0]


def dumpable(pid: int, uid: int) -> bool:
    """Whether a task of that user may be traced by him: else the files in /proc/PID, not that itself, are root's."""
    return os.stat(f"/proc/{pid}/stat").st_uid == uid


def _group_of(uid: int) -> int:
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return -1


def foreign_owner(directory: Path) -> Owner | None:
    """The owner of a directory that is not root's, when we are root."""
    if os.geteuid():
        return None
    try:
        found = os.stat(directory)
    except OSError:
        return None
    return Owner(found.st_uid, found.st_gid) if found.st_uid else None
