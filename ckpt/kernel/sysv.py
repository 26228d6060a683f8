"""SysV semaphore sets and message queues."""

from __future__ import annotations

import ctypes
import errno
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ckpt.errors import KernelError
from ckpt.kernel import uapi_ipc as i
from ckpt.kernel.ipc import with_next_id
from ckpt.kernel.libc import syscall

_PERM = "<iIIIIIHH4xQQ"  # struct ipc64_perm
_SEMID64_DS = struct.Struct(_PERM + "qQqQQQQ")
_MSQID64_DS = struct.Struct(_PERM + "qqqQQQiiQQ")
_ABSENT = (errno.EINVAL, errno.EIDRM, errno.EACCES)
_NEW = i.IPC_CREAT | i.IPC_EXCL


@dataclass(frozen=True, slots=True)
class Permissions:
    """The part of struct ipc64_perm that can be set, and the key."""

    key: int
    uid: int
    gid: int
    mode: int


@dataclass(frozen=True, slots=True)
class SemaphoreSet:
    """struct semid64_ds with each semaphore's value and the process that changed it last."""

    permissions: Permissions
    values: tuple[int, ...]
    pids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MessageQueue:
    """struct msqid64_ds."""

    permissions: Permissions
    bytes_now: int
    messages: int
    bytes_most: int
    last_sender: int
    last_receiver: int


def ids(kind: str) -> list[int]:
    """Every id of this IPC namespace; `kind` is sem or msg. Empty when the kernel has none of them."""
    try:
        lines = Path(f"/proc/sysvipc/{kind}").read_text().splitlines()[1:]
    except FileNotFoundError:
        return []
    return [int(line.split()[1]) for line in lines]


def sem_look(semid: int) -> SemaphoreSet | None:
    """A semaphore set; None when there is none with this id, or this user may not look at it."""
    buffer = ctypes.create_string_buffer(_SEMID64_DS.size)
    try:
        syscall(f"semctl({semid}, IPC_STAT)", i.SYS_semctl, semid, 0, i.IPC_STAT, buffer)
        key, uid, gid, _cu, _cg, mode, *rest = _SEMID64_DS.unpack(buffer.raw)
        number = int(rest[8])
        values = (ctypes.c_uint16 * number)()
        syscall(f"semctl({semid}, GETALL)", i.SYS_semctl, semid, 0, i.GETALL, values)
        pids = [syscall(f"semctl({semid}, GETPID)", i.SYS_semctl, semid, n, i.GETPID, 0) for n in range(number)]
    except KernelError as error:
        if error.errno in _ABSENT:
            return None
        raise
    return SemaphoreSet(Permissions(key, uid, gid, mode & 0o777), tuple(values), tuple(pids))


def sem_create(semid: int, found: Permissions, values: Sequence[int]) -> None:
    """A new set with this very id. KernelError with EEXIST when the id or the key is taken."""
    name, flags = f"semget({found.key:#x})", found.mode | _NEW
    with_next_id(
        "sem",
        semid,
        lambda: syscall(name, i.SYS_semget, found.key & 0xFFFFFFFF, len(values), flags),
        sem_remove,
    )
    perm = _SEMID64_DS.pack(found.key, found.uid, found.gid, 0, 0, found.mode, *[0] * 11)
    syscall(f"semctl({semid}, IPC_SET)", i.SYS_semctl, semid, 0, i.IPC_SET, ctypes.create_string_buffer(perm))
    syscall(f"semctl({semid}, SETALL)", i.SYS_semctl, semid, 0, i.SETALL, (ctypes.c_uint16 * len(values))(*values))


def sem_remove(semid: int) -> None:
    """IPC_RMID of a semaphore set."""
    syscall(f"semctl({semid}, IPC_RMID)", i.SYS_semctl, semid, 0, i.IPC_RMID, 0)


def msg_look(msqid: int) -> MessageQueue | None:
    """A message queue; None when there is none with this id, or this user may not look at it."""
    buffer = ctypes.create_string_buffer(_MSQID64_DS.size)
    try:
        syscall(f"msgctl({msqid}, IPC_STAT)", i.SYS_msgctl, msqid, i.IPC_STAT, buffer)
    except KernelError as error:
        if error.errno in _ABSENT:
            return None
        raise
    key, uid, gid, _cu, _cg, mode, *rest = _MSQID64_DS.unpack(buffer.raw)
    return MessageQueue(Permissions(key, uid, gid, mode & 0o777), *rest[7:12])


def msg_peek(msqid: int, queue: MessageQueue) -> list[tuple[int, bytes]]:
    """Every message as (type, text), oldest first; nothing is taken out. Needs CONFIG_CHECKPOINT_RESTORE."""
    room = ctypes.create_string_buffer(8 + queue.bytes_now)
    found = []
    for index in range(queue.messages):
        flags = i.IPC_NOWAIT | i.MSG_COPY
        name = f"msgrcv({msqid}, MSG_COPY)"
        size = syscall(name, i.SYS_msgrcv, msqid, room, queue.bytes_now, index, flags)
        found.append((int.from_bytes(room.raw[:8], "little", signed=True), room.raw[8 : 8 + size]))
    return found


def msg_create(msqid: int, queue: MessageQueue, messages: Sequence[tuple[int, bytes]]) -> None:
    """A new queue with this very id and these messages. KernelError with EEXIST when the id or the key is taken."""
    found = queue.permissions
    name, flags = f"msgget({found.key:#x})", found.mode | _NEW
    with_next_id(
        "msg",
        msqid,
        lambda: syscall(name, i.SYS_msgget, found.key & 0xFFFFFFFF, flags),
        msg_remove,
    )
    perm = (found.key, found.uid, found.gid, 0, 0, found.mode, *[0] * 9, queue.bytes_most, *[0] * 4)
    buffer = ctypes.create_string_buffer(_MSQID64_DS.pack(*perm))
    syscall(f"msgctl({msqid}, IPC_SET)", i.SYS_msgctl, msqid, i.IPC_SET, buffer)
    for kind, text in messages:
        packed = ctypes.create_string_buffer(struct.pack("<q", kind) + text)
        syscall(f"msgsnd({msqid})", i.SYS_msgsnd, msqid, packed, len(text), i.IPC_NOWAIT)


def msg_remove(msqid: int) -> None:
    """IPC_RMID of a message queue."""
    syscall(f"msgctl({msqid}, IPC_RMID)", i.SYS_msgctl, msqid, i.IPC_RMID, 0)
