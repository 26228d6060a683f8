"""POSIX message queues. The queue outlives its tasks: it is opened again, and must be the one it was."""

from __future__ import annotations

import errno
import os
import stat

from ckpt.errors import FileChanged, KernelError, RestoreError
from ckpt.kernel import ipc, uapi_ipc
from ckpt.kernel.descriptors import steal_descriptor
from ckpt.records.files import FileRecord
from ckpt.records.ipc import MqueuePayload
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files.base import FileView

SUPPORT = Support("ipc", "POSIX message queues", "opened again: name, mode, position")


class MqueueKind:
    """A queue opened with mq_open."""

    kind = "mqueue"

    def recognises(self, view: FileView) -> bool:
        # Its looks first, which cost nothing: the kernel's own mount has no path but "/NAME".
        if not stat.S_ISREG(view.stat.st_mode) or view.stat.st_size != uapi_ipc.FILENT_SIZE or view.fd < 0:
            return False
        if view.link.count("/") != 1:
            return False
        fd = steal_descriptor(view.pid, view.fd)
        try:
            return ipc.mq_attributes(fd) is not None
        finally:
            os.close(fd)

    def collect(self, view: FileView, context: CollectContext) -> MqueuePayload | None:
        with view.stolen(context) as fd:
            queue = ipc.mq_attributes(fd)
        assert queue is not None
        name = view.link.removesuffix(" (deleted)")
        if name != view.link or not _same(name, view.stat.st_ino):
            context.refuse(view.pid, view.subject, "is a message queue without a name (mq_unlink)")
            return None
        status = ipc.mq_status(name)
        if owner := status.get("NOTIFY_PID", 0):
            reason = f"is a message queue that task {owner} waits for with mq_notify"
            context.refuse(view.pid, view.subject, reason, "end the notification before the dump")
        return MqueuePayload(
            name=name,
            ino=view.stat.st_ino,
            mode=stat.S_IMODE(view.stat.st_mode),
            uid=view.stat.st_uid,
            gid=view.stat.st_gid,
            maxmsg=queue.maxmsg,
            msgsize=queue.msgsize,
            curmsgs=queue.curmsgs,
            qsize=status.get("QSIZE", 0),
        )

    def restore(self, file: FileRecord, context: RestoreContext) -> int:
        payload: MqueuePayload = file.payload
        what = f"message queue {payload.name}"
        access = file.flags & os.O_ACCMODE
        try:
            fd = ipc.mq_open(payload.name, access | os.O_NONBLOCK)
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise RestoreError(f"{what} cannot be opened: {error.message}") from error
            if payload.curmsgs:
                raise FileChanged(f"{what}, with {payload.curmsgs} message(s), is gone") from error
            return _create(payload, access)
        queue = ipc.mq_attributes(fd)
        size = ipc.mq_status(payload.name).get("QSIZE", 0)
        if queue is None or (queue.maxmsg, queue.msgsize, queue.curmsgs, size) != (
            payload.maxmsg,
            payload.msgsize,
            payload.curmsgs,
            payload.qsize,
        ):
            os.close(fd)
            raise FileChanged(f"{what} has changed since the dump", hint="restore before others use the queue")
        return fd


KIND = MqueueKind()


def _same(name: str, ino: int) -> bool:
    """Whether the name leads to this queue still."""
    try:
        fd = ipc.mq_open(name, os.O_RDONLY | os.O_NONBLOCK)
    except KernelError:
        return False
    try:
        return os.fstat(fd).st_ino == ino
    finally:
        os.close(fd)


def _create(payload: MqueuePayload, access: int) -> int:
    """An empty queue as it was: on another host, or after a reboot."""
    attributes = ipc.Queue(0, payload.maxmsg, payload.msgsize, 0)
    try:
        fd = ipc.mq_open(payload.name, access | os.O_CREAT | os.O_EXCL, payload.mode, attributes)
        os.fchmod(fd, payload.mode)
        os.fchown(fd, payload.uid, payload.gid)
    except (KernelError, OSError) as error:
        raise RestoreError(f"message queue {payload.name} cannot be made: {error}") from error
    return fd
