"""POSIX message queues. A queue outlives its tasks: it is opened again, and must be the one it was.

Without a name it ends with its last descriptor, and is made anew, as one that is gone at the restore. Messages, and
what mq_notify was given, are read in the kernel's memory.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from functools import partial

from ckpt.errors import FileChanged, KernelError, RestoreError
from ckpt.kernel import fdinfo, ipc, queue_memory, uapi_ipc
from ckpt.kernel.descriptors import open_magic, steal_descriptor
from ckpt.records.files import FileRecord
from ckpt.records.ipc import MqueueEvent, MqueueMessage, MqueuePayload
from ckpt.records.seams import RemoteTask
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files.base import FileView
from ckpt.state.files.registry import registry

SUPPORT = Support(
    "ipc",
    "POSIX message queues",
    "opened again with their messages, or made again with them; nameless ones; mq_notify",
)


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

    def collect(self, view: FileView, context: CollectContext) -> MqueuePayload:
        with view.stolen(context) as fd:
            queue = ipc.mq_attributes(fd)
            assert queue is not None
            return self._collect(view, fd, queue, context)

    def _collect(self, view: FileView, fd: int, queue: ipc.Queue, context: CollectContext) -> MqueuePayload:
        name = view.link.removesuffix(" (deleted)")
        unlinked = name != view.link or not _same(name, view.stat.st_ino)
        messages: tuple[MqueueMessage, ...] = ()
        try:
            if queue.curmsgs:
                messages = tuple(MqueueMessage(*message) for message in queue_memory.messages(fd))
        except KernelError as error:
            if unlinked:
                reason = f"is a message queue without a name (mq_unlink) that holds {queue.curmsgs} message(s)"
                hint = "let the task receive them before the dump, or run ckpt as root"
                context.refuse(view.pid, view.subject, f"{reason}: {error.message}", hint)
        status = _status(view)
        notify = _notified(view, status, context)
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
            unlinked=unlinked,
            notify=notify,
            event=_event(view, fd, notify, status, context),
            messages=messages,
        )

    def restore(self, file: FileRecord, context: RestoreContext) -> int:
        payload: MqueuePayload = file.payload
        if payload.notify is not None:
            context.when_installed(payload.notify[0], partial(_notify, payload))
        if payload.unlinked:
            return _nameless(payload, file.flags, context)
        what = f"message queue {payload.name}"
        access = file.flags & os.O_ACCMODE
        try:
            fd = ipc.mq_open(payload.name, access | os.O_NONBLOCK)
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise RestoreError(f"{what} cannot be opened: {error.message}") from error
            if payload.curmsgs > len(payload.messages):
                raise FileChanged(f"{what}, with {payload.curmsgs} message(s), is gone") from error
            return _create(payload, payload.name, access)
        queue = ipc.mq_attributes(fd)
        reader = open_magic(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK)
        size = ipc.mq_status(reader).get("QSIZE", 0)
        os.close(reader)
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


def _status(view: FileView) -> dict[str, int]:
    fd = open_magic(view.proc_path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return ipc.mq_status(fd)
    finally:
        os.close(fd)


def _notified(view: FileView, status: dict[str, int], context: CollectContext) -> tuple[int, int] | None:
    """The task and descriptor with which the queue is reserved by mq_notify."""
    owner = status.get("NOTIFY_PID", 0)
    known = registry(context)
    if owner not in known.tables:
        return None  # nobody, or somebody outside
    fd = next((fd for pid, fd in view.users if pid == known.tables[owner]), -1)
    done: set[int] = context.shared.setdefault("mqueue:notified", set())
    if fd < 0 or view.stat.st_ino in done:
        return None
    done.add(view.stat.st_ino)
    return owner, fd


def _event(
    view: FileView, fd: int, notify: tuple[int, int] | None, status: dict[str, int], context: CollectContext
) -> MqueueEvent | None:
    """What mq_notify was given; None for SIGEV_NONE, which needs nothing."""
    if notify is None or status.get("NOTIFY") == uapi_ipc.SIGEV_NONE:
        return None
    netlink = -1
    try:
        event = queue_memory.notification(fd)
        if event.notify == uapi_ipc.SIGEV_THREAD:
            netlink = next(n for n in fdinfo.numbers(notify[0]) if _is_sock(notify[0], n, event.sock))
    except (KernelError, StopIteration):
        reason = f"is a message queue that task {notify[0]} waits for with mq_notify, and how cannot be read"
        context.refuse(view.pid, view.subject, reason, "run ckpt as root, or end the notification before the dump")
        return None
    return MqueueEvent(event.value, event.signo, event.notify, event.cookie, netlink)


def _is_sock(pid: int, number: int, sock: int) -> bool:
    """Whether the task's descriptor is the socket at this address in the kernel."""
    fd = steal_descriptor(pid, number)
    try:
        return stat.S_ISSOCK(os.fstat(fd).st_mode) and queue_memory.sock_address(fd) == sock
    finally:
        os.close(fd)


def _notify(payload: MqueuePayload, task: RemoteTask) -> None:
    assert payload.notify is not None
    wanted = payload.event or MqueueEvent(0, 0, uapi_ipc.SIGEV_NONE)
    value, signo = wanted.value, wanted.signo
    if wanted.notify == uapi_ipc.SIGEV_THREAD:
        value, signo = task.put(wanted.cookie, uapi_ipc.SIGEVENT_SIZE), wanted.netlink
    event = struct.pack("<QiI", value, signo, wanted.notify) + bytes(uapi_ipc.SIGEVENT_SIZE - 16)
    try:
        task.syscall(uapi_ipc.SYS_mq_notify, payload.notify[1], task.put(event))
    except KernelError as error:
        raise RestoreError(
            f"task {task.pid}: message queue {payload.name} cannot be reserved (mq_notify): {error.message}"
        ) from error


def _nameless(payload: MqueuePayload, flags: int, context: RestoreContext) -> int:
    """One more description of a queue made under a name of ckpt's own, which goes when all are open."""
    key = f"mqueue:{payload.ino}"
    if key not in context.shared:
        name = f"/.ckpt-{os.urandom(6).hex()}"
        os.close(_create(payload, name, os.O_RDWR))
        context.shared[key] = name
        unlink = partial(_unlink, name)
        context.stack.callback(unlink)
        context.when_opened(unlink)
    # By its name: open(2) would add O_LARGEFILE, which then shows for ever.
    return ipc.mq_open(context.shared[key], flags & os.O_ACCMODE | os.O_NONBLOCK)


def _unlink(name: str) -> None:
    try:
        ipc.mq_unlink(name)
    except KernelError as error:
        if error.errno != errno.ENOENT:
            raise


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


def _fill(fd: int, payload: MqueuePayload) -> None:
    writer = open_magic(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK)
    try:
        for message in payload.messages:
            ipc.mq_send(writer, message.priority, message.data)
    finally:
        os.close(writer)


def _create(payload: MqueuePayload, name: str, access: int) -> int:
    """The queue as it was: on another host, or after a reboot."""
    attributes = ipc.Queue(0, payload.maxmsg, payload.msgsize, 0)
    try:
        fd = ipc.mq_open(name, access | os.O_CREAT | os.O_EXCL, payload.mode, attributes)
        os.fchmod(fd, payload.mode)
        os.fchown(fd, payload.uid, payload.gid)
        if payload.messages:
            _fill(fd, payload)
    except (KernelError, OSError) as error:
        raise RestoreError(f"message queue {payload.name} cannot be made: {error}") from error
    return fd
