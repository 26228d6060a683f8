"""SysV semaphore sets and message queues that the tree uses: those that one of its tasks changed last.

They belong to the IPC namespace and stand there when the tree has ended; a restore makes again what is gone, with
its id, and leaves alone what it finds. What the end of a task did to semaphores (SEM_UNDO) is taken back: a value
that differs from the dump's although nobody but that task touched it is what its undo made of it, and the task does
the difference again with SEM_UNDO.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from functools import partial

from ckpt.errors import KernelError, RestoreError
from ckpt.kernel import sysv
from ckpt.kernel import uapi_ipc as i
from ckpt.records.ipc import SysvMessage, SysvMsgRecord, SysvSemRecord
from ckpt.records.seams import RemoteTask
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext

SUPPORT = Support(
    "ipc",
    "SysV semaphores, messages",
    "values, SEM_UNDO, queues with their messages; made again with their ids when gone",
)
_HINT = "remove what has its key with ipcrm, if it is a leftover"


def collect_queues(context: CollectContext) -> None:
    """Add a record for each set and queue that a task of the tree was the last to use."""
    pids = {task.pid for task in context.tasks}
    for semid in sysv.ids("sem"):
        found = sysv.sem_look(semid)
        if found is not None and pids.intersection(found.pids):
            p = found.permissions
            context.records.append(SysvSemRecord(semid, p.key, p.mode, p.uid, p.gid, found.values))
    for msqid in sysv.ids("msg"):
        queue = sysv.msg_look(msqid)
        if queue is not None and pids.intersection((queue.last_sender, queue.last_receiver)):
            p = queue.permissions
            messages = tuple(SysvMessage(*message) for message in _messages(msqid, queue))
            record = SysvMsgRecord(msqid, p.key, p.mode, p.uid, p.gid, queue.bytes_most, messages)
            context.records.append(record)


def _messages(msqid: int, queue: sysv.MessageQueue) -> list[tuple[int, bytes]]:
    try:
        return sysv.msg_peek(msqid, queue)
    except KernelError as error:
        if error.errno in (errno.ENOSYS, errno.EINVAL):  # without CONFIG_CHECKPOINT_RESTORE nobody may look
            return []
        raise


def restore_queues(context: RestoreContext) -> None:
    """Make again what is gone; undone values are put right by the tasks when they stand."""
    for record in context.view.records("sysv-sem"):
        what = f"SysV semaphore set {record.semid} (key {record.key:#x})"
        try:
            found = sysv.sem_look(record.semid)
            if found is None:
                sysv.sem_create(record.semid, _permissions(record), record.values)
                context.stack.push(_if_failed(partial(sysv.sem_remove, record.semid)))
                continue
        except KernelError as error:
            raise RestoreError(f"{what} cannot be made: {error.message}", hint=error.hint or _HINT) from error
        if found.permissions.key != record.key or len(found.values) != len(record.values):
            raise RestoreError(f"{what} is another set now", hint=_HINT)
        for number, (was, now, pid) in enumerate(zip(record.values, found.values, found.pids, strict=True)):
            if was != now and pid in context.pids:
                context.when_installed(pid, partial(_undo, record.semid, number, was - now))
    for record in context.view.records("sysv-msg"):
        what = f"SysV message queue {record.msqid} (key {record.key:#x})"
        try:
            queue = sysv.msg_look(record.msqid)
            if queue is None:
                queue = sysv.MessageQueue(_permissions(record), 0, 0, record.bytes_most, 0, 0)
                sysv.msg_create(record.msqid, queue, [(m.type, m.text) for m in record.messages])
                context.stack.push(_if_failed(partial(sysv.msg_remove, record.msqid)))
        except KernelError as error:
            raise RestoreError(f"{what} cannot be made: {error.message}", hint=error.hint or _HINT) from error
        if queue.permissions.key != record.key:
            raise RestoreError(f"{what} is another queue now", hint=_HINT)


def _if_failed(undo: Callable[[], None]) -> Callable[..., bool]:
    def leave(kind: object, *_: object) -> bool:
        if kind is not None:
            undo()
        return False

    return leave


def _permissions(record: SysvSemRecord | SysvMsgRecord) -> sysv.Permissions:
    return sysv.Permissions(record.key, record.uid, record.gid, record.mode)


def _undo(semid: int, number: int, difference: int, task: RemoteTask) -> None:
    """semop in the task with SEM_UNDO: the value is the dump's again, and the task's end will undo it as before."""
    operation = task.put(struct.pack("<Hhh", number, difference, i.SEM_UNDO | i.IPC_NOWAIT))  # struct sembuf
    try:
        task.syscall(i.SYS_semop, semid, operation, 1)
    except KernelError as error:
        raise RestoreError(
            f"task {task.pid}: semaphore {number} of SysV set {semid} cannot have its value again: {error.message}",
            hint="another process uses the set; stop it first",
        ) from error
