"""SysV semaphore sets and message queues that the tree uses: those that one of its tasks changed last.

They belong to the IPC namespace and stand there when the tree has ended; a restore makes again what is gone, with
its id, and leaves alone what it finds. What the end of a task did to semaphores (SEM_UNDO) is read in the kernel's
memory; the task does it again, backwards, with SEM_UNDO. Where that cannot be read, a value that differs from the
dump's although nobody but that task touched it is what its undo made of it.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from ckpt.errors import KernelError, RestoreError
from ckpt.kernel import ipc, semaphore_undo, sysv, uapi, uapi_namespaces
from ckpt.kernel import uapi_ipc as i
from ckpt.records.ipc import SysvMessage, SysvMsgRecord, SysvSemRecord, SysvUndo
from ckpt.records.seams import ImageView, RemoteTask
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.rebuild import rebuilding
from ckpt.state.sysv import is_same

SUPPORT = Support(
    "ipc",
    "SysV semaphores, messages",
    "values, SEM_UNDO (of threads too), queues with their messages; made again with their ids when gone",
    lost="without CAP_BPF, which of several tasks is to undo a change, and in a new pid namespace what any of them is",
)
_HINT = "remove what has its key with ipcrm, if it is a leftover"


def collect_queues(context: CollectContext) -> None:
    """Add a record for each set and queue that a task of the tree was the last to use, or would undo changes of."""
    pids = {task.pid for task in context.tasks}
    sets = {semid: found for semid in sysv.ids("sem") if (found := sysv.sem_look(semid)) is not None}
    known = _undo_lists(context, {semid: len(found.values) for semid, found in sets.items()})
    own = [undo for _, undo in known or () if undo.tid]
    for semid, found in sets.items():
        undone = [undo for of, undo in known or () if of == semid and any(undo.adjustments)]
        if not undone and not pids.intersection(found.pids):
            continue
        left = {undo.tid: replace(undo, adjustments=(0,) * len(found.values)) for undo in own}
        left.update({undo.tid: undo for undo in undone if undo.tid})
        undo = None if known is None else (*(undo for undo in undone if not undo.tid), *left.values())
        p = found.permissions
        context.records.append(SysvSemRecord(semid, p.key, p.mode, p.uid, p.gid, found.values, undo))
    for msqid in sysv.ids("msg"):
        queue = sysv.msg_look(msqid)
        if queue is not None and pids.intersection((queue.last_sender, queue.last_receiver)):
            p = queue.permissions
            messages = tuple(SysvMessage(*message) for message in _messages(msqid, queue))
            record = SysvMsgRecord(msqid, p.key, p.mode, p.uid, p.gid, queue.bytes_most, messages)
            context.records.append(record)


def _undo_lists(context: CollectContext, sizes: dict[int, int]) -> list[tuple[int, SysvUndo]] | None:
    """(semid, what an end undoes there); semid -1: a thread has a list of its own that is empty. None: unknown."""
    if not sizes:
        return []
    try:
        owners = {
            tid: (task.pid, at)
            for task in context.tasks
            for at, tid in enumerate(semaphore_undo.owners(task.pid, task.tids))
        }
        values, same = semaphore_undo.adjustments([(pid, tid) for tid, (pid, _) in owners.items()], sizes)
    except KernelError:
        return None
    for tid, first in same.items():
        if any(of == first for of, _ in values):
            reason = f"shares what its end undoes (SEM_UNDO) with task {owners[first][0]}, without being a thread of it"
            context.refuse(owners[tid][0], "CLONE_SYSVSEM", reason, "run them without CLONE_SYSVSEM")
    lists = [
        (semid, SysvUndo(owners[tid][0], all_, tid if owners[tid][1] else 0)) for (tid, semid), all_ in values.items()
    ]
    empty = [SysvUndo(pid, (), tid) for tid, (pid, at) in owners.items() if at and not any(t == tid for t, _ in values)]
    return lists + [(-1, undo) for undo in empty]


def _messages(msqid: int, queue: sysv.MessageQueue) -> list[tuple[int, bytes]]:
    try:
        return sysv.msg_peek(msqid, queue)
    except KernelError as error:
        if error.errno in (errno.ENOSYS, errno.EINVAL):  # without CONFIG_CHECKPOINT_RESTORE nobody may look
            return []
        raise


@dataclass
class StillHere:
    """What there is in this IPC namespace of the SysV objects of an image, by name."""

    gone: list[str] = field(default_factory=list)  # or another object by now
    kept: list[str] = field(default_factory=list)
    attached: list[str] = field(default_factory=list)  # segments that processes use


def still_here(view: ImageView) -> StillHere:
    """Look for the SysV objects of an image."""
    found = StillHere()
    for segment in view.records("sysv-shm"):
        shm = ipc.shm_stat(segment.shmid)
        same = shm is not None and is_same(shm, segment)
        (found.kept if same else found.gone).append(f"SysV shared memory segment {segment.shmid}")
        if shm is not None and same and shm.nattch:
            found.attached.append(found.kept[-1])
    for record in view.records("sysv-sem"):
        sem = sysv.sem_look(record.semid)
        same = sem is not None and (sem.permissions.key, len(sem.values)) == (record.key, len(record.values))
        (found.kept if same else found.gone).append(f"SysV semaphore set {record.semid}")
    for queue in view.records("sysv-msg"):
        msg = sysv.msg_look(queue.msqid)
        same = msg is not None and msg.permissions.key == queue.key
        (found.kept if same else found.gone).append(f"SysV message queue {queue.msqid}")
    return found


def restore_queues(context: RestoreContext) -> None:
    """Make again what is gone; undone values are put right by the tasks when they stand."""
    for record in context.view.records("sysv-sem"):
        what = f"SysV semaphore set {record.semid} (key {record.key:#x})"
        try:
            found = sysv.sem_look(record.semid)
            if found is None:
                sysv.sem_create(record.semid, _permissions(record), _start(record))
                context.stack.push(_if_failed(partial(sysv.sem_remove, record.semid)))
                _do_again(context, record, list(_start(record)))
                continue
        except KernelError as error:
            raise RestoreError(f"{what} cannot be made: {error.message}", hint=error.hint or _HINT) from error
        if found.permissions.key != record.key or len(found.values) != len(record.values):
            raise RestoreError(f"{what} is another set now", hint=_HINT)
        if record.undo is not None:
            _do_again(context, record, list(found.values))
            continue
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


def _start(record: SysvSemRecord) -> tuple[int, ...]:
    """Values from which every task can do what it did, in any order."""
    return tuple(
        value + sum(max(0, undo.adjustments[number]) for undo in record.undo or ())
        for number, value in enumerate(record.values)
    )


def _do_again(context: RestoreContext, record: SysvSemRecord, now: list[int]) -> None:
    """Each task does what its end would undo, and the last one what is missing then; `now`: the values before."""
    undo = [one for one in record.undo or () if one.pid in context.pids]
    start = _start(record)
    apart: set[int] = context.shared.setdefault("sysv:apart", set())
    for one in undo:
        if one.tid and one.tid not in apart:
            apart.add(one.tid)
            context.when_installed(one.pid, partial(_leave_list, context, one.tid))
    for number in range(len(now)):
        effects = [-one.adjustments[number] for one in undo if one.adjustments[number]]
        if not effects:
            continue
        first = start[number] - now[number]
        last = record.values[number] - start[number] - sum(effects)
        ones = [one for one in undo if one.adjustments[number]]
        todo = [len(ones)]
        for one, effect in zip(ones, effects, strict=True):
            act = partial(_one_of, record.semid, number, (first, effect, last), len(ones), todo)
            context.when_installed(one.pid, partial(_in_thread, context, one.tid, act) if one.tid else act)


def _in_thread(context: RestoreContext, tid: int, act: Callable[[RemoteTask], None], task: RemoteTask) -> None:
    assert context.acting is not None
    with context.acting(tid) as thread:
        act(thread or task)


def _leave_list(context: RestoreContext, tid: int, task: RemoteTask) -> None:
    """Before anything that is to be undone: the list that a thread leaves is undone when nobody has it any more."""
    with rebuilding(task.pid, f"the semaphore adjustments of thread {tid}"):
        _in_thread(context, tid, _unshare, task)


def _unshare(thread: RemoteTask) -> None:
    thread.syscall(uapi_namespaces.SYS_unshare, uapi.CLONE_SYSVSEM)


def _one_of(semid: int, number: int, steps: tuple[int, int, int], of: int, todo: list[int], task: RemoteTask) -> None:
    first, effect, last = steps
    if todo[0] == of and first:
        _semop(semid, number, first, 0, task)
    _semop(semid, number, effect, i.SEM_UNDO, task)
    todo[0] -= 1
    if not todo[0] and last:
        _semop(semid, number, last, 0, task)


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
    _semop(semid, number, difference, i.SEM_UNDO, task)


def _semop(semid: int, number: int, difference: int, flags: int, task: RemoteTask) -> None:
    operation = task.put(struct.pack("<Hhh", number, difference, flags | i.IPC_NOWAIT))  # struct sembuf
    try:
        task.syscall(i.SYS_semop, semid, operation, 1)
    except KernelError as error:
        raise RestoreError(
            f"task {task.pid}: semaphore {number} of SysV set {semid} cannot have its value again: {error.message}",
            hint="another process uses the set; stop it first",
        ) from error
