"""SysV shared memory that tasks have attached.

A segment is no file: it stands in the IPC namespace under its id, and stays there when its last user ends, unless
it is marked for removal. The restore attaches the same segment if it is still there, else it makes one with that id.
Semaphores and messages: `sysv_queues`.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable

from ckpt.errors import KernelError, RestoreError
from ckpt.kernel import ipc, uapi_ipc
from ckpt.records.ipc import SysvShmRecord
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext

SUPPORT = Support(
    "ipc",
    "SysV shared memory",
    "attachments and contents, locked or not",
    lost="who made it (cuid, cgid), of a segment that is made again; of semaphores and messages, too",
)

_FILL = "sysv:fill"
_REMOVE = "sysv:remove"
_LOCK = "sysv:lock"


def collect_sysv(context: CollectContext, shmids: Iterable[int]) -> list[SysvShmRecord]:
    """The records of attached segments; also added to `context.records`. `shmids`: the inodes of the mappings."""
    known: dict[int, SysvShmRecord] = context.shared.setdefault("sysv:known", {})
    for shmid in dict.fromkeys(shmids):
        if shmid in known:
            continue
        segment = ipc.shm_stat(shmid)
        if segment is None:
            raise KernelError(
                f"SysV segment {shmid} is mapped, but not known in this IPC namespace", errno=errno.EINVAL
            )
        known[shmid] = SysvShmRecord(
            shmid=shmid,
            key=segment.key,
            size=segment.size,
            mode=segment.mode & 0o777,
            uid=segment.uid,
            gid=segment.gid,
            ctime=segment.ctime,
            cpid=segment.cpid,
            removed=bool(segment.mode & uapi_ipc.SHM_DEST),
            locked=bool(segment.mode & uapi_ipc.SHM_LOCKED),
        )
        context.records.append(known[shmid])
    return list(known.values())


def ensure_sysv(record: SysvShmRecord, context: RestoreContext, huge: int = 0) -> int:
    """The id to shmat, which is that of old. Raises RestoreError when another segment has it.

    `huge`: SHM_HUGETLB with SHM_HUGE_*. `needs_filling` tells whether its contents are to come from the image.
    """
    what = f"SysV shared memory segment {record.shmid} (key {record.key:#x})"
    try:
        found = ipc.shm_stat(record.shmid)
        if found is None:
            ipc.shm_create(record.shmid, record.key, record.size, record.mode, record.uid, record.gid, huge)
            context.shared.setdefault(_FILL, set()).add(record.shmid)
            # Taken back if the restore fails before a task is attached.
            context.stack.callback(_drop_unused, record.shmid)
            if record.locked:
                context.shared.setdefault(_LOCK, set()).add(record.shmid)
            if record.removed:
                context.shared.setdefault(_REMOVE, set()).add(record.shmid)
            return record.shmid
    except KernelError as error:
        raise RestoreError(f"{what} cannot be made: {error.message}", hint=error.hint) from error
    if not is_same(found, record):
        raise RestoreError(f"{what} is another segment now", hint="remove it with ipcrm -m if it is a leftover")
    if not found.nattch:
        context.shared.setdefault(_FILL, set()).add(record.shmid)
    return record.shmid


def is_same(found: ipc.Segment, record: SysvShmRecord) -> bool:
    """Whether it is the segment of the dump, or one that an earlier restore made."""
    same = (found.key, found.size, found.ctime) == (record.key, record.size, record.ctime)
    # The creator has no number in a pid namespace in which he is not.
    return (same and found.cpid in (record.cpid, 0)) or _ours(found, record)


def needs_filling(context: RestoreContext, shmid: int) -> bool:
    """Whether nobody uses the segment yet: its contents are the image's. Others' live data is never overwritten."""
    return shmid in context.shared.get(_FILL, ())


def finish_sysv(context: RestoreContext) -> None:
    """Lock, and mark for removal, what was so before. Called when every task has attached its segments."""
    for shmid in context.shared.pop(_LOCK, ()):
        try:
            ipc.shm_lock(shmid)
        except KernelError as error:
            raise RestoreError(
                f"SysV segment {shmid} cannot be locked: {error.message}",
                hint="raise RLIMIT_MEMLOCK, or run ckpt as root",
            ) from error
    for shmid in context.shared.pop(_REMOVE, ()):
        try:
            ipc.shm_remove(shmid)
        except KernelError as error:
            raise RestoreError(f"SysV segment {shmid} cannot be marked for removal: {error.message}") from error


def _ours(found: ipc.Segment, record: SysvShmRecord) -> bool:
    """An earlier restore made it again: the creator differs, and nobody has it attached."""
    return (found.key, found.size, found.nattch) == (record.key, record.size, 0) and record.key != 0


def _drop_unused(shmid: int) -> None:
    found = ipc.shm_stat(shmid)
    if found is not None and not found.nattch:
        ipc.shm_remove(shmid)
