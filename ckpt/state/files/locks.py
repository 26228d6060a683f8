"""Locks on open files: flock, POSIX, OFD (open file description) locks, leases, from the `lock:` lines of fdinfo.

flock, OFD locks and leases belong to the description and are taken by ckpt on the rebuilt one. POSIX locks
belong to a descriptor table and are taken by a task that uses it, once its descriptors stand at their
numbers.
"""

from __future__ import annotations

import fcntl
import os
import struct
from functools import partial

from ckpt.errors import KernelError, RestoreError
from ckpt.kernel import uapi, uapi_files
from ckpt.records.file_kinds import FileLock
from ckpt.records.seams import RemoteTask
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files.base import FileView

SUPPORT = Support("files", "locks", "flock, POSIX, OFD, leases")

_KINDS = {"FLOCK": "flock", "POSIX": "posix", "OFDLCK": "ofd", "LEASE": "lease"}


def note(context: CollectContext, view: FileView, pid: int, fd: int, lines: list[str]) -> None:
    """Add a record for each lock seen through one descriptor; several descriptors show the same lock."""
    seen: set[tuple[object, ...]] = context.shared.setdefault("files:locks", set())
    for line in lines:  # "1: POSIX  ADVISORY  WRITE 123 fe:00:77 0 EOF"
        f = line.split()
        kind = _KINDS.get(f[1])
        if kind is None or (kind == "lease" and f[2] != "ACTIVE"):
            context.refuse(
                pid,
                view.subject,
                f"has a lock that cannot be restored: {' '.join(f[1:4])}",
                "release it, or try again when the lease is no longer being broken",
            )
            continue
        write, start = f[3] == "WRITE", int(f[6])
        end = -1 if f[7] == "EOF" else int(f[7])
        key = (view.file_id, kind, write, start, end, pid if kind == "posix" else 0)
        if f[3] != "UNLCK" and key not in seen:
            seen.add(key)
            context.records.append(FileLock(view.file_id, kind, write, start, end, pid, fd))


def prepare(context: RestoreContext) -> None:
    """Queue every lock of the image: on the descriptions now, in the tasks when their tables stand."""
    for lock in context.view.records("file-lock"):
        if lock.kind == "posix":
            context.when_installed(lock.pid, partial(_lock_in_task, lock))
        else:
            context.when_opened(partial(_lock_here, context, lock))


def _flock_bytes(lock: FileLock) -> bytes:
    """struct flock, include/uapi/asm-generic/fcntl.h."""
    kind = uapi_files.F_WRLCK if lock.write else uapi_files.F_RDLCK
    length = 0 if lock.end < 0 else lock.end - lock.start + 1
    return struct.pack("<hhxxxxqqixxxx", kind, os.SEEK_SET, lock.start, length, 0)


def _lock_here(context: RestoreContext, lock: FileLock) -> None:
    fd = context.opened[lock.file_id]
    try:
        if lock.kind == "flock":
            fcntl.flock(fd, (fcntl.LOCK_EX if lock.write else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        elif lock.kind == "ofd":
            fcntl.fcntl(fd, uapi_files.F_OFD_SETLK, _flock_bytes(lock))
        else:
            kind = uapi_files.F_WRLCK if lock.write else uapi_files.F_RDLCK
            fcntl.fcntl(fd, uapi_files.F_SETLEASE, kind)
    except OSError as error:
        raise _not_locked(lock, error.strerror or "") from None


def _lock_in_task(lock: FileLock, task: RemoteTask) -> None:
    try:
        task.syscall(uapi.SYS_fcntl, lock.fd, uapi_files.F_SETLK, task.put(_flock_bytes(lock)))
    except KernelError as error:
        raise _not_locked(lock, error.message) from None


def _not_locked(lock: FileLock, why: str) -> RestoreError:
    return RestoreError(
        f"task {lock.pid}: the {lock.kind} lock on fd {lock.fd} cannot be taken: {why}",
        hint="another process holds a lock on the same file; stop it first",
    )
