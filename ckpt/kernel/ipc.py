"""SysV shared memory segments and POSIX message queues."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ckpt.errors import KernelError, Unsupported
from ckpt.kernel import uapi
from ckpt.kernel import uapi_ipc as i
from ckpt.kernel.libc import kernel_error, syscall

_SHMID64_DS = struct.Struct("<iIIIIIHH4xQQQqqqiiQQQ")
_MQ_ATTR = struct.Struct("<qqqq32x")


@dataclass(frozen=True, slots=True)
class Segment:
    """struct shmid64_ds."""

    key: int
    uid: int
    gid: int
    mode: int  # with SHM_DEST when it goes away with its last user, SHM_LOCKED
    size: int
    ctime: int
    cpid: int
    nattch: int


@dataclass(frozen=True, slots=True)
class Queue:
    """struct mq_attr."""

    flags: int
    maxmsg: int
    msgsize: int
    curmsgs: int


def shm_stat(shmid: int) -> Segment | None:
    """IPC_STAT of a segment; None when there is none with this id."""
    buffer = ctypes.create_string_buffer(_SHMID64_DS.size)
    try:
        syscall(f"shmctl({shmid}, IPC_STAT)", uapi.SYS_shmctl, shmid, i.IPC_STAT, buffer)
    except KernelError as error:
        if error.errno in (errno.EINVAL, errno.EIDRM):
            return None
        raise
    key, uid, gid, _cuid, _cgid, mode, _seq, _pad, _u1, _u2, size, _at, _dt, ctime, cpid, _lpid, nattch, _u4, _u5 = (
        _SHMID64_DS.unpack(buffer.raw)
    )
    return Segment(key, uid, gid, mode, size, ctime, cpid, nattch)


def with_next_id(kind: str, wanted: int, make: Callable[[], int], remove: Callable[[int], object]) -> None:
    """Let `make` make a SysV object of this kind (shm, sem, msg) with the id `wanted`; EEXIST when that is taken."""
    sysctl = Path(f"/proc/sys/kernel/{kind}_next_id")
    try:
        sysctl.write_text(str(wanted))
    except OSError as error:
        raise Unsupported(
            f"a SysV {kind} object cannot be made with id {wanted}: {error.strerror}",
            errno=error.errno or 0,
            hint="use a kernel with CONFIG_CHECKPOINT_RESTORE, as root",
        ) from error
    try:
        got = make()
    except KernelError:
        sysctl.write_text("-1")  # or the next one to ask, whoever it is, would get it
        raise
    if got != wanted:
        remove(got)
        raise kernel_error(f"SysV {kind} id {wanted} is taken", errno.EEXIST)


def shm_create(shmid: int, key: int, size: int, mode: int, uid: int, gid: int, huge: int = 0) -> None:
    """A new segment with this very id (the shm_next_id sysctl). KernelError with EEXIST when it is taken."""
    flags = mode & 0o777 | i.IPC_CREAT | i.IPC_EXCL | huge
    with_next_id(
        "shm",
        shmid,
        lambda: syscall(f"shmget({key:#x}, {size})", uapi.SYS_shmget, key & 0xFFFFFFFF, size, flags),
        shm_remove,
    )
    perm = _SHMID64_DS.pack(key, uid, gid, 0, 0, mode & 0o777, *[0] * 13)
    syscall(f"shmctl({shmid}, IPC_SET)", uapi.SYS_shmctl, shmid, i.IPC_SET, ctypes.create_string_buffer(perm))


@contextmanager
def attached(shmid: int) -> Iterator[int]:
    """The segment attached to ckpt itself; its address."""
    address = syscall(f"shmat({shmid})", uapi.SYS_shmat, shmid, 0, 0)
    try:
        yield address
    finally:
        syscall(f"shmdt({address:#x})", i.SYS_shmdt, address)


def shm_remove(shmid: int) -> None:
    """IPC_RMID: the segment goes away with its last user."""
    syscall(f"shmctl({shmid}, IPC_RMID)", uapi.SYS_shmctl, shmid, i.IPC_RMID, 0)


def shm_lock(shmid: int) -> None:
    """SHM_LOCK: the segment is kept out of the swap."""
    syscall(f"shmctl({shmid}, SHM_LOCK)", uapi.SYS_shmctl, shmid, i.SHM_LOCK, 0)


def mq_open(name: str, flags: int, mode: int = 0o600, attributes: Queue | None = None) -> int:
    """A descriptor for the queue, close-on-exec; `name` with its slash. With O_CREAT the attributes count."""
    text = ctypes.create_string_buffer(os.fsencode(name.removeprefix("/")))
    packed: ctypes.Array[ctypes.c_char] | int = 0
    if attributes is not None:
        packed = ctypes.create_string_buffer(_MQ_ATTR.pack(0, attributes.maxmsg, attributes.msgsize, 0))
    # O_CLOEXEC would stay among the flags of the description and be shown for ever.
    return syscall(f"mq_open({name})", i.SYS_mq_open, text, flags, mode, packed)


def mq_attributes(fd: int) -> Queue | None:
    """The queue behind a descriptor; None when it is no message queue."""
    buffer = ctypes.create_string_buffer(_MQ_ATTR.size)
    try:
        syscall("mq_getsetattr", i.SYS_mq_getsetattr, fd, 0, buffer)
    except KernelError as error:
        if error.errno == errno.EBADF:
            return None
        raise
    return Queue(*_MQ_ATTR.unpack(buffer.raw))


def mq_send(fd: int, priority: int, data: bytes) -> None:
    """Put a message into a queue that has room for it."""
    text = ctypes.create_string_buffer(data, max(len(data), 1))
    syscall("mq_timedsend", i.SYS_mq_timedsend, fd, text, len(data), priority, 0)


def mq_unlink(name: str) -> None:
    """Take the queue's name away."""
    text = ctypes.create_string_buffer(os.fsencode(name.removeprefix("/")))
    syscall(f"mq_unlink({name})", i.SYS_mq_unlink, text)


def mq_status(fd: int) -> dict[str, int]:
    """QSIZE, NOTIFY, SIGNO and NOTIFY_PID of the queue behind a descriptor that can be read."""
    try:
        text = os.pread(fd, 200, 0).decode()
    except OSError as error:
        raise kernel_error("reading a message queue", error.errno or 0) from error
    return {key: int(value) for key, value in (field.split(":") for field in text.split())}
