"""Restoring open files: every description is rebuilt in ckpt, then handed to the tasks by SCM_RIGHTS.

The order: `make_channel` before the first skeleton is born (it is inherited), `open_files` when every pid
exists (files in /proc, pidfds), `install_table` in one task of each table, `finish_files`, and `close_files`
before anything runs, since the ends of pipes that ckpt holds keep readers from seeing their end.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

from ckpt.errors import KernelError, RestoreError
from ckpt.kernel import uapi, uapi_files
from ckpt.kernel.libc import syscall
from ckpt.records.files import Descriptor, FdTable, FileRecord
from ckpt.records.seams import RemoteTask
from ckpt.state.context import RestoreContext
from ckpt.state.files import inherit, locks, procfiles, tty
from ckpt.state.files.channel import deliver, make_channel, move, receive, send
from ckpt.state.files.kinds import kind_named

__all__ = [
    "close_files",
    "deliver",
    "finish_files",
    "install_table",
    "make_channel",
    "move",
    "open_files",
    "open_mapped",
    "run_installed_hooks",
]

BATCH = 200  # of at most SCM_MAX_FD descriptors in a message
_KEEP = 0xFFFFFFFF  # -1: leave the id as it is
_SETFL = os.O_APPEND | os.O_NONBLOCK | os.O_ASYNC | os.O_DIRECT | os.O_NOATIME  # what F_SETFL can change


def open_mapped(context: RestoreContext, file_ids: Iterable[int]) -> None:
    """Open what is mapped ahead of `open_files`: it needs no task to exist."""
    _load(context)
    for file_id in sorted(file_ids):
        if file_id not in context.opened:
            context.opened[file_id] = _open(context.files[file_id], context)


def _load(context: RestoreContext) -> None:
    if not context.files:
        context.files = {file.file_id: file for file in context.view.records("file")}
        context.tables = {table.table_id: table for table in context.view.records("fd-table")}
        context.stack.callback(close_files, context)


def begin_session(context: RestoreContext, leader: RemoteTask) -> None:
    """Called when a task has become the leader of its session and has no child in it yet."""
    _load(context)
    tty.begin_session(context, leader)


def open_files(context: RestoreContext) -> None:
    """Open every description of the image in ckpt (`context.opened`), then run the opened hooks."""
    _load(context)
    given = inherit.choose(context.options.get("inherit", inherit.Inherit()), context)
    for file in context.files.values():
        if file.file_id in context.opened:
            continue
        fd = given.get(file.file_id)
        context.opened[file.file_id] = _open(file, context) if fd is None else os.dup(fd)
    locks.prepare(context)
    while context.opened_hooks:
        context.opened_hooks.pop(0)()
    # Last, since O_NONBLOCK and O_DIRECT matter to what the hooks write.
    standing = _numbers(context)
    for file in context.files.values():
        if file.file_id in given:  # its flags are the caller's
            continue
        own = file.flags & os.O_ASYNC and standing.get(file.file_id)
        _set_flags(file, context.opened[file.file_id], _SETFL & ~os.O_ASYNC if own else _SETFL)
        if own:
            context.when_installed(own[0], partial(_send_signals, file, own[1]))


def _numbers(context: RestoreContext) -> dict[int, tuple[int, int]]:
    """file_id -> (table_id, lowest number) in the first table that holds the description."""
    found: dict[int, tuple[int, int]] = {}
    for table in context.tables.values():
        for descriptor in sorted(table.fds, key=lambda d: d.fd):
            found.setdefault(descriptor.file_id, (table.table_id, descriptor.fd))
    return found


def _send_signals(file: FileRecord, fd: int, task: RemoteTask) -> None:
    """O_ASYNC, set by the task: si_fd of its signals is the number by which it was set."""
    try:
        task.syscall(uapi.SYS_fcntl, fd, fcntl.F_SETFL, file.flags & _SETFL)
    except KernelError as error:
        raise _failed(file, f"O_ASYNC: {error.message}") from None


def _open(file: FileRecord, context: RestoreContext) -> int:
    try:
        fd = kind_named(file.kind).restore(file, context)
        _own_socket(file, fd)
    except OSError as error:
        raise _failed(file, error.strerror or "") from None
    except KernelError as error:
        raise _failed(file, error.message) from None
    if file.pos and not file.flags & uapi_files.O_PATH and file.kind != procfiles.KIND.kind:
        try:
            os.lseek(fd, file.pos, os.SEEK_SET)
        except OSError as error:
            # In a directory that was removed some file systems know no position; it holds nothing.
            if error.errno != errno.ESPIPE and not (error.errno == errno.EINVAL and not os.fstat(fd).st_nlink):
                os.close(fd)
                raise _failed(file, f"position {file.pos}: {error.strerror}") from None
    return fd


def _own_socket(file: FileRecord, fd: int) -> None:
    """The user and group of a socket; those of others are kept by root alone."""
    found = os.fstat(fd)
    if file.socket_owner and file.socket_owner != (found.st_uid, found.st_gid):
        try:
            os.fchown(fd, *file.socket_owner)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EINVAL):  # EINVAL: nobody of this user namespace
                raise


def _failed(file: FileRecord, why: str) -> RestoreError:
    name = getattr(file.payload, "path", "")
    return RestoreError(f"open file {file.file_id} ({file.kind}{' ' + name if name else ''}): {why}")


def _set_flags(file: FileRecord, fd: int, changed: int) -> None:
    if file.flags & uapi_files.O_PATH:
        return
    try:
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        if (flags ^ file.flags) & changed:
            fcntl.fcntl(fd, fcntl.F_SETFL, flags & ~_SETFL | file.flags & changed)
        if file.owner_sig:
            fcntl.fcntl(fd, uapi_files.F_SETSIG, file.owner_sig)
        if file.rw_hint and file.flags & os.O_ACCMODE != os.O_RDONLY:
            _hint(fd, file.rw_hint)
    except OSError as error:
        raise _failed(file, f"flags {file.flags:#o}: {error.strerror}") from None


def _hint(fd: int, hint: int) -> None:
    """A write life time hint is advice: a file of another owner goes without."""
    try:
        fcntl.fcntl(fd, uapi_files.F_SET_RW_HINT, hint.to_bytes(8, "little"))
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EINVAL):
            raise


def install_table(context: RestoreContext, task: RemoteTask, table: FdTable, channel: int) -> None:
    """Give a skeleton its descriptors at their numbers, run its hooks, close all else (`channel` last)."""
    task.syscall(uapi.SYS_close_range, channel + 1, 0xFFFFFFFF, 0)
    if channel:
        task.syscall(uapi.SYS_close_range, 0, channel - 1, 0)
    with _room_for(task.pid, max([channel, *(d.fd for d in table.fds)])):
        _install(context, task, table, channel)
    task.syscall(uapi_files.SYS_close, channel)


@contextmanager
def _room_for(pid: int, highest: int) -> Iterator[None]:
    """A task may have lowered its limit of open files below what it had open; for now it can take them again."""
    try:
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        if highest < soft:
            yield
            return
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (max(highest + 1, soft), max(highest + 1, hard)))
    except OSError as error:
        raise RestoreError(
            f"task {pid} has descriptors above its limit of open files, which cannot be raised: {error.strerror}",
            hint="run ckpt as root",
        ) from None
    yield
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


def _install(context: RestoreContext, task: RemoteTask, table: FdTable, channel: int) -> None:
    for batch in _batches(sorted(table.fds, key=lambda d: d.fd)):
        send(context, [context.opened[d.file_id] for d in batch])
        numbers = receive(task, channel, len(batch), batch[0].cloexec)
        # Ascending numbers take the lowest free ones, so none lands above its own; moved from the top down,
        # none finds its place taken by another.
        for number, descriptor in reversed(list(zip(numbers, batch, strict=True))):
            if number != descriptor.fd:
                move(task, number, descriptor.fd, descriptor.cloexec)
    run_installed_hooks(context, task)


def run_installed_hooks(context: RestoreContext, task: RemoteTask) -> None:
    """Run what waits for the descriptors of this task or thread; one that shares its table gets no `install_table`."""
    hooks = [hook for pid, hook in context.installed_hooks if pid == task.tid]
    context.installed_hooks[:] = [(pid, hook) for pid, hook in context.installed_hooks if pid != task.tid]
    for hook in hooks:
        hook(task)


def finish_files(context: RestoreContext) -> None:
    """What waits for memory and threads; F_SETOWN_EX, whose owner may be a thread. One that is gone is left out."""
    while context.finished_hooks:
        context.finished_hooks.pop(0)()
    for file in context.files.values():
        if not file.owner_pid:
            continue
        try:
            owner = struct.pack("<ii", file.owner_type, file.owner_pid)
            with _acting_as(file.owner_uids):
                fcntl.fcntl(context.opened[file.file_id], uapi_files.F_SETOWN_EX, owner)
        except OSError as error:
            if error.errno != errno.ESRCH:
                raise _failed(file, f"owner {file.owner_pid}: {error.strerror}") from None


@contextmanager
def _acting_as(uids: tuple[int, ...]) -> Iterator[None]:
    """This thread's real and effective ids for the moment; without the right to change them they stay."""
    if not uids or uids == (os.getuid(), os.geteuid()) or os.geteuid():
        yield
        return
    syscall("setresuid", uapi.SYS_setresuid, *uids, _KEEP)
    try:
        yield
    finally:
        syscall("setresuid", uapi.SYS_setresuid, os.getresuid()[2], os.getresuid()[2], _KEEP)


def close_files(context: RestoreContext) -> None:
    """Close ckpt's copies of the tree's files; safe to call twice."""
    while context.opened:
        os.close(context.opened.popitem()[1])


def _batches(fds: list[Descriptor]) -> list[list[Descriptor]]:
    """Runs of descriptors that one message can bring: recvmsg sets close-on-exec for all or none."""
    batches: list[list[Descriptor]] = []
    for descriptor in fds:
        if batches and len(batches[-1]) < BATCH and batches[-1][-1].cloexec == descriptor.cloexec:
            batches[-1].append(descriptor)
        else:
            batches.append([descriptor])
    return batches
