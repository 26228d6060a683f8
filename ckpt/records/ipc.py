"""The records of inter-process communication that has names of its own."""

from __future__ import annotations

from dataclasses import dataclass

from ckpt.records.base import record


@dataclass(frozen=True, slots=True)
class MqueueEvent:
    """What mq_notify was given."""

    value: int
    signo: int
    notify: int  # SIGEV_*
    cookie: bytes = b""
    netlink: int = -1  # with SIGEV_THREAD, the task's descriptor of the socket that the cookie is sent to


@dataclass(frozen=True, slots=True)
class MqueueMessage:
    """A message that waits."""

    priority: int
    data: bytes


@record("mqueue")
class MqueuePayload:
    """One open POSIX message queue. The queue itself, with its messages, lives in the IPC namespace."""

    name: str  # with its slash
    ino: int
    mode: int
    uid: int
    gid: int
    maxmsg: int
    msgsize: int
    curmsgs: int
    qsize: int  # bytes in all messages
    unlinked: bool = False  # it has no name any more
    notify: tuple[int, int] | None = None  # the task and its descriptor that mq_notify reserved
    event: MqueueEvent | None = None  # with what; None: SIGEV_NONE
    messages: tuple[MqueueMessage, ...] = ()  # of a queue that somebody may have to make again


@record("sysv-shm")
class SysvShmRecord:
    """One SysV shared memory segment that tasks have attached."""

    shmid: int
    key: int  # 0: IPC_PRIVATE
    size: int
    mode: int  # permissions
    uid: int
    gid: int
    ctime: int
    cpid: int  # its creator
    removed: bool  # IPC_RMID was called: it goes away with its last user
    locked: bool = False  # SHM_LOCK


@dataclass(frozen=True, slots=True)
class SysvUndo:
    """What the end of a task, or of one of its threads, does to a set (SEM_UNDO)."""

    pid: int
    adjustments: tuple[int, ...]  # added to each semaphore
    tid: int = 0  # of a thread that has left the list of its process (unshare(CLONE_SYSVSEM)); 0: the process's


@record("sysv-sem")
class SysvSemRecord:
    """One SysV semaphore set that a task of the tree used last."""

    semid: int
    key: int
    mode: int
    uid: int
    gid: int
    values: tuple[int, ...]
    undo: tuple[SysvUndo, ...] | None = None  # None: it could not be read


@dataclass(frozen=True, slots=True)
class SysvMessage:
    """One message that waits in a SysV queue."""

    type: int
    text: bytes


@record("sysv-msg")
class SysvMsgRecord:
    """One SysV message queue that a task of the tree used last, with its messages."""

    msqid: int
    key: int
    mode: int
    uid: int
    gid: int
    bytes_most: int
    messages: tuple[SysvMessage, ...]
