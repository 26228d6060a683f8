"""The way on which descriptors go from ckpt to the tasks that are being built: SCM_RIGHTS on one socket pair.

Every skeleton inherits the far end at the same number, which no table uses; only one task at a time listens.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from ckpt.errors import RestoreError
from ckpt.kernel import uapi, uapi_files
from ckpt.kernel.descriptors import raise_descriptor_limit
from ckpt.records.file_kinds import EpollFile
from ckpt.records.seams import RemoteTask
from ckpt.state.context import RestoreContext

_CHANNEL = "files:channel"
_NUMBER = "files:channel-number"


def make_channel(context: RestoreContext) -> int:
    """The number, in no table, at which each skeleton inherits the way descriptors come to it."""
    hard = raise_descriptor_limit()
    used = {d.fd for table in context.view.records("fd-table") for d in table.fds}
    for file in context.view.records("file"):
        if isinstance(file.payload, EpollFile):  # a watched file may have to stand at a closed number for a moment
            used |= {watch.tfd for watch in file.payload.watches}
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with theirs:
        try:
            channel = _dup_outside(theirs.fileno(), used, hard)
        except OSError:
            ours.close()
            raise RestoreError(
                f"descriptor {max(used)} of the image is above this host's limit of {hard} open files",
                hint="raise it with ulimit -n before restoring",
            ) from None
    context.stack.callback(os.close, channel)
    context.stack.callback(ours.close)
    context.shared[_CHANNEL] = ours
    context.shared[_NUMBER] = channel
    return channel


def _dup_outside(fd: int, used: set[int], limit: int) -> int:
    """Duplicate to a number that is free here and not in `used`: above all, or else in a gap near the top."""
    number = max(used, default=2) + 1
    while True:
        if number >= limit:
            number = next((n for n in range(limit - 1, 2, -1) if n not in used and not _is_open(n)), -1)
        got = fcntl.fcntl(fd, fcntl.F_DUPFD, number)
        if got not in used:
            return got
        os.close(got)
        number = got + 1


def _is_open(fd: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_GETFD)
    except OSError:
        return False
    return True


def deliver(context: RestoreContext, task: RemoteTask, file_id: int) -> int:
    """Give the task one more descriptor, at the lowest free number; only while its channel is open."""
    return hand_over(context, task, context.opened[file_id])


def hand_over(context: RestoreContext, task: RemoteTask, fd: int) -> int:
    """`deliver` for any descriptor of ckpt's."""
    send(context, [fd])
    return receive(task, context.shared[_NUMBER], 1, True)[0]


@contextmanager
def standing_at(context: RestoreContext, task: RemoteTask, number: int) -> Iterator[None]:
    """Something is open at the number for the moment, before the task has its descriptors."""
    task.syscall(uapi.SYS_dup3, context.shared[_NUMBER], number, os.O_CLOEXEC)
    try:
        yield
    finally:
        task.syscall(uapi_files.SYS_close, number)


def move(task: RemoteTask, number: int, target: int, cloexec: bool) -> None:
    """Move a descriptor of the task to another number, closing what was there."""
    task.syscall(uapi.SYS_dup3, number, target, os.O_CLOEXEC if cloexec else 0)
    task.syscall(uapi_files.SYS_close, number)


def send(context: RestoreContext, fds: list[int]) -> None:
    channel: socket.socket = context.shared[_CHANNEL]
    try:
        socket.send_fds(channel, [b"f"], fds)
    except OSError as error:
        raise RestoreError(f"handing descriptors to a task: {error.strerror}") from None


def receive(task: RemoteTask, channel: int, count: int, cloexec: bool) -> list[int]:
    """recvmsg in the task; the numbers, in the order sent."""
    room = socket.CMSG_LEN(4 * count)
    base = task.put(bytes(8))
    # struct msghdr, struct iovec, one byte of data, then the control buffer at 80.
    header = struct.pack("<QIIQQQQiI", 0, 0, 0, base + 56, 1, base + 80, room, 0, 0)
    task.put(header + struct.pack("<QQ", base + 72, 1) + bytes(8 + room))
    flags = uapi_files.MSG_CMSG_CLOEXEC if cloexec else 0
    task.syscall(uapi.SYS_recvmsg, channel, base, flags)
    control = task.read(base + 80, room)
    length, level, kind = struct.unpack_from("<Qii", control)
    if (length, level, kind) != (room, socket.SOL_SOCKET, socket.SCM_RIGHTS):
        raise RestoreError(
            f"task {task.pid} received fewer descriptors than the {count} sent to it",
            hint="raise its limit of open files (ulimit -n) before restoring",
        )
    return list(struct.unpack_from(f"<{count}i", control, 16))
