"""Locks on open files: flock, POSIX, OFD (open file description) locks, leases, from the `lock:` lines of fdinfo.

OFD locks belong to the description and are taken by ckpt on the rebuilt one. POSIX locks belong to a descriptor table,
flock tells whose call it was, and a lease remembers the number by which it was taken: a task takes those, once its
descriptors stand at their numbers.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import struct
from functools import partial

from ckpt.errors import KernelError, RestoreError
from ckpt.kernel import uapi, uapi_files
from ckpt.records.file_kinds import FileLock
from ckpt.records.seams import RemoteTask
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files.base import FileView

SUPPORT = Support("files", "locks", "flock, POSIX, OFD, leases, those that are being broken, too")

_KINDS = {"FLOCK": "flock", "POSIX": "posix", "OFDLCK": "ofd", "LEASE": "lease"}


def note(context: CollectContext, view: FileView, pid: int, fd: int, lines: list[str]) -> None:
    """Add a record for each lock seen through one descriptor; several descriptors show the same lock."""
    seen: dict[tuple[object, ...], int] = context.shared.setdefault("files:locks", {})
    for line in lines:  # "1: POSIX  ADVISORY  WRITE 123 fe:00:77 0 EOF"
        f = line.split()
        kind = _KINDS.get(f[1])
        breaking = kind == "lease" and f[2] == "BREAKING"
        if kind is None or (kind == "lease" and f[2] != "ACTIVE" and not (breaking and fd >= 0)):
            context.refuse(
                pid,
                view.subject,
                f"has a lock that cannot be restored: {' '.join(f[1:4])}",
                "release it before the dump",
            )
            continue
        write, start = f[3] == "WRITE", int(f[6])
        downgrade = breaking and f[3] == "READ"
        if breaking:  # the line says what is to become of it; only a description opened for reading has one for reading
            write = downgrade or view.flags & os.O_ACCMODE != os.O_RDONLY
        end = -1 if f[7] == "EOF" else int(f[7])
        key = (view.file_id, kind, write, start, end, pid if kind == "posix" else 0)
        if f[3] == "UNLCK" and not breaking:
            continue
        found = FileLock(view.file_id, kind, write, start, end, pid, fd, breaking, downgrade)
        if key not in seen:
            seen[key] = len(context.records)
            context.records.append(found)
        elif kind == "flock" and pid == int(f[4]):  # it shows who took it
            context.records[seen[key]] = found


def prepare(context: RestoreContext) -> None:
    """Queue every lock of the image: on the descriptions now, in the tasks when their tables stand."""
    for lock in context.view.records("file-lock"):
        if lock.kind == "posix":
            context.when_installed(lock.pid, partial(_lock_in_task, lock))
        elif lock.kind == "lease" and lock.fd >= 0:
            context.when_installed(lock.pid, partial(_lease_in_task, context, lock))
        elif lock.kind == "flock" and lock.fd >= 0:
            context.when_installed(lock.pid, partial(_flock_in_task, lock))
        else:
            context.when_opened(partial(_lock_here, context, lock))


def _kind(lock: FileLock) -> int:
    return uapi_files.F_WRLCK if lock.write else uapi_files.F_RDLCK


def _operation(lock: FileLock) -> int:
    return (fcntl.LOCK_EX if lock.write else fcntl.LOCK_SH) | fcntl.LOCK_NB


def _flock_bytes(lock: FileLock) -> bytes:
    """struct flock, include/uapi/asm-generic/fcntl.h."""
    length = 0 if lock.end < 0 else lock.end - lock.start + 1
    return struct.pack("<hhxxxxqqixxxx", _kind(lock), os.SEEK_SET, lock.start, length, 0)


def _lock_here(context: RestoreContext, lock: FileLock) -> None:
    fd = context.opened[lock.file_id]
    try:
        if lock.kind == "flock":
            fcntl.flock(fd, _operation(lock))
        elif lock.kind == "ofd":
            fcntl.fcntl(fd, uapi_files.F_OFD_SETLK, _flock_bytes(lock))
        else:
            fcntl.fcntl(fd, uapi_files.F_SETLEASE, _kind(lock))
    except OSError as error:
        raise _not_locked(lock, error.strerror or "") from None


def _lock_in_task(lock: FileLock, task: RemoteTask) -> None:
    try:
        task.syscall(uapi.SYS_fcntl, lock.fd, uapi_files.F_SETLK, task.put(_flock_bytes(lock)))
    except KernelError as error:
        raise _not_locked(lock, error.message) from None


def _flock_in_task(lock: FileLock, task: RemoteTask) -> None:
    """By a task that has it open: /proc/locks tells who took a lock."""
    try:
        task.syscall(uapi.SYS_flock, lock.fd, _operation(lock))
    except KernelError as error:
        raise _not_locked(lock, error.message) from None


def _lease_in_task(context: RestoreContext, lock: FileLock, task: RemoteTask) -> None:
    """By the holder itself: si_fd of the signal that asks for it is the number at which it was taken."""
    try:
        task.syscall(uapi.SYS_fcntl, lock.fd, uapi_files.F_SETLEASE, _kind(lock))
    except KernelError as error:
        raise _not_locked(lock, error.message) from None
    if lock.breaking:
        _break(context, lock)
        _forget(task, context.files[lock.file_id].owner_sig or signal.SIGIO)


def _forget(task: RemoteTask, number: int) -> None:
    """Take back a signal that came of the restore."""
    mask = task.put((1 << (number - 1)).to_bytes(8, "little") + bytes(16))
    with contextlib.suppress(KernelError):
        task.syscall(uapi.SYS_rt_sigtimedwait, mask, 0, mask + 8, 8)


def _break(context: RestoreContext, lock: FileLock) -> None:
    """Ask for the lease again, as whoever asked did."""
    access = os.O_RDONLY if lock.downgrade else os.O_WRONLY
    with contextlib.suppress(BlockingIOError):
        os.close(os.open(f"/proc/self/fd/{context.opened[lock.file_id]}", access | os.O_NONBLOCK | os.O_CLOEXEC))


def _not_locked(lock: FileLock, why: str) -> RestoreError:
    return RestoreError(
        f"task {lock.pid}: the {lock.kind} lock on fd {lock.fd} cannot be taken: {why}",
        hint="another process holds a lock on the same file; stop it first",
    )
