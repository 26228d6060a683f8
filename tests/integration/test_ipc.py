"""Message queues, SysV segments, netlink and packet sockets."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ckpt.errors import FileChanged, RestoreError, Unsupported
from ckpt.kernel import ipc, queue_memory, sysv
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.sysv import collect_sysv, ensure_sysv, finish_sysv, needs_filling
from ckpt.state.sysv_queues import collect_queues, restore_queues
from tests.support.sockets import MemoryImage, StoppedTask, collect, restored, target

pytestmark = pytest.mark.root

libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
libc.shmdt.argtypes = [ctypes.c_void_p]

PRELUDE = """
import ctypes, os, socket, sys
def at(number, fd):
    os.dup2(fd, number); os.close(fd)
libc = ctypes.CDLL(None)
"""


@contextmanager
def queue_name() -> Iterator[str]:
    name = f"/ckpt-test-{os.getpid()}"
    try:
        yield name
    finally:
        libc.mq_unlink(name.encode())


OPEN = """
import struct
name = sys.argv[1].encode(); attr = struct.pack("<qqqq32x", 0, 5, 64, 0)
fd = libc.mq_open(name, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o640, attr)
libc.mq_send(fd, b"low", 3, 1); libc.mq_send(fd, b"high", 4, 9)
at(100, fd)
"""


def test_a_message_queue_is_opened_again_with_its_messages() -> None:
    with queue_name() as name:
        with target(PRELUDE + OPEN, name) as child:
            context, tables = collect(child.pid)
        assert not context.refusals, [str(r) for r in context.refusals]
        with restored(context, tables) as files:
            assert not os.get_blocking(files[100])
            buffer, priority = ctypes.create_string_buffer(64), ctypes.c_uint()
            assert libc.mq_receive(files[100], buffer, 64, ctypes.byref(priority)) == 4
            assert (buffer.value, priority.value) == (b"high", 9)
        with pytest.raises(FileChanged, match="has changed"), restored(context, tables):
            pass
        libc.mq_unlink(name.encode())
        with restored(context, tables) as files:  # made again, with what was in it
            for wanted in (b"high", b"low"):
                assert libc.mq_receive(files[100], buffer, 64, ctypes.byref(priority)) == len(wanted)
                assert buffer.raw[: len(wanted)] == wanted


def test_an_empty_queue_is_made_again_when_it_is_gone() -> None:
    with queue_name() as name:
        source = OPEN.replace('libc.mq_send(fd, b"low", 3, 1); libc.mq_send(fd, b"high", 4, 9)', "")
        with target(PRELUDE + source, name) as child:
            context, tables = collect(child.pid)
        libc.mq_unlink(name.encode())
        with restored(context, tables) as files:
            queue = ipc.mq_attributes(files[100])
            assert queue is not None
            assert (queue.maxmsg, queue.msgsize) == (5, 64)
            assert os.fstat(files[100]).st_mode & 0o777 == 0o640


def test_without_the_kernels_memory_nameless_messages_and_notifications_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def closed(_fd: int) -> object:
        raise Unsupported("the kernel's memory cannot be read")

    monkeypatch.setattr(queue_memory, "messages", closed)
    monkeypatch.setattr(queue_memory, "notification", closed)
    with queue_name() as name:
        with target(PRELUDE + OPEN + "libc.mq_unlink(name)", name) as child:
            context, _ = collect(child.pid)
            context.stack.close()
        assert any("without a name" in str(r) for r in context.refusals)
        notify = OPEN.replace('libc.mq_send(fd, b"low", 3, 1); libc.mq_send(fd, b"high", 4, 9)', "")
        notify += "libc.mq_notify(100, struct.pack('<qii48x', 0, 10, 0))"
        with target(PRELUDE + notify, name) as child:
            context, _ = collect(child.pid)
            context.stack.close()
        assert any("mq_notify" in str(r) for r in context.refusals)


@contextmanager
def segment(key: int = 0) -> Iterator[int]:
    shmid = libc.shmget(key, 8192, 0o1600)
    assert shmid >= 0
    try:
        yield shmid
    finally:
        if ipc.shm_stat(shmid) is not None:
            ipc.shm_remove(shmid)


def restore_context() -> RestoreContext:
    return RestoreContext(MemoryImage([]), frozenset())  # type: ignore[arg-type]


def test_a_segment_that_is_still_there_is_used() -> None:
    with segment() as shmid:
        (record,) = collect_sysv(CollectContext([]), [shmid, shmid])
        made = restore_context()
        with made.stack:
            assert ensure_sysv(record, made) == shmid
            assert needs_filling(made, shmid)
            address = libc.shmat(shmid, None, 0)
            other = restore_context()
            ensure_sysv(record, other)
            assert not needs_filling(other, shmid), "somebody has it attached"
            libc.shmdt(address)
        assert ipc.shm_stat(shmid) is not None


def test_a_segment_that_is_gone_is_made_with_its_id() -> None:
    with segment() as shmid:
        address = libc.shmat(shmid, None, 0)
        ipc.shm_remove(shmid)
        (record,) = collect_sysv(CollectContext([]), [shmid])
        assert record.removed
        libc.shmdt(address)
        assert ipc.shm_stat(shmid) is None
        made = restore_context()
        with made.stack:
            assert ensure_sysv(record, made) == shmid
            found = ipc.shm_stat(shmid)
            assert found is not None
            assert (found.size, found.mode & 0o777) == (8192, 0o600)
            address = libc.shmat(shmid, None, 0)
            finish_sysv(made)
        libc.shmdt(address)
        assert ipc.shm_stat(shmid) is None, "it goes away with its last user"


def test_a_failed_restore_leaves_no_segment() -> None:
    with segment() as shmid:
        (record,) = collect_sysv(CollectContext([]), [shmid])
        ipc.shm_remove(shmid)
        made = restore_context()
        with made.stack:
            ensure_sysv(record, made)
        assert ipc.shm_stat(shmid) is None


def test_another_segment_with_the_id_is_an_error() -> None:
    with segment() as shmid:
        (record,) = collect_sysv(CollectContext([]), [shmid])
        ipc.shm_remove(shmid)
        ipc.shm_create(shmid, 0, 4096, 0o600, 0, 0)
        with pytest.raises(RestoreError, match="another segment"):
            ensure_sysv(record, restore_context())


def test_netlink_and_packet_sockets() -> None:
    source = """
import struct
link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0); link.bind((0, 1)); link.setsockopt(270, 10, 1)
at(100, link.detach())
packet = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
drop = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))
packet.setsockopt(1, 26, struct.pack("HxxxxxxQ", 1, ctypes.addressof(drop)))
packet.bind(("lo", 0x88B5)); at(101, packet.detach())
"""
    with target(PRELUDE + source) as child:
        context, tables = collect(child.pid)
    assert not context.refusals, [str(r) for r in context.refusals]
    with restored(context, tables) as files:
        with socket.socket(fileno=os.dup(files[100])) as link:
            assert link.getsockname()[0] == child.pid
            assert link.getsockopt(270, 10) == 1
            groups = link.getsockopt(270, 9, 8)
            assert struct.unpack_from("<I", groups)[0] & 1
        with socket.socket(fileno=os.dup(files[101])) as packet:
            assert packet.getsockname()[:2] == ("lo", 0x88B5)


def test_a_vsock_is_refused_by_name() -> None:
    try:
        socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()
    except OSError:
        pytest.skip("this kernel has no vsock: modprobe vsock")
    with target(PRELUDE + "at(100, socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).detach())") as child:
        context, _ = collect(child.pid)
        context.stack.close()
    assert any("vsock" in str(refusal) for refusal in context.refusals)


class _Buffer(ctypes.Structure):
    _fields_ = [("type", ctypes.c_long), ("text", ctypes.c_char * 16)]


@contextmanager
def set_and_queue() -> Iterator[tuple[int, int]]:
    """A semaphore set and a message queue that this process used, removed at the end."""
    semid, msqid = libc.semget(0x43000000 | os.getpid(), 3, 0o1640), libc.msgget(0, 0o1600)
    assert semid >= 0 and msqid >= 0
    try:
        libc.semctl(semid, 1, 16, 77)  # SETVAL
        for kind, text in ((5, b"five"), (2, b"two")):
            libc.msgsnd(msqid, ctypes.byref(_Buffer(kind, text)), len(text), 0)
        yield semid, msqid
    finally:
        if sysv.sem_look(semid) is not None:
            sysv.sem_remove(semid)
        if sysv.msg_look(msqid) is not None:
            sysv.msg_remove(msqid)


def test_semaphores_and_messages_that_are_gone_are_made_again() -> None:
    with set_and_queue() as (semid, msqid):
        context = CollectContext([StoppedTask(os.getpid())])
        collect_queues(context)
        before = sysv.sem_look(semid), sysv.msg_look(msqid)
        sysv.sem_remove(semid)
        sysv.msg_remove(msqid)
        made = RestoreContext(MemoryImage(context.records), frozenset())  # type: ignore[arg-type]
        with pytest.raises(RuntimeError), made.stack:
            restore_queues(made)
            raise RuntimeError
        assert sysv.sem_look(semid) is None and sysv.msg_look(msqid) is None, "a failed restore leaves nothing"
        with made.stack:
            restore_queues(made)
        sets, queue = sysv.sem_look(semid), sysv.msg_look(msqid)
        assert before[0] is not None and sets is not None and queue is not None and before[1] is not None
        assert (sets.permissions, sets.values) == (before[0].permissions, (0, 77, 0))
        assert (queue.permissions, queue.bytes_most) == (before[1].permissions, before[1].bytes_most)
        got = _Buffer()
        assert [(libc.msgrcv(msqid, ctypes.byref(got), 16, 0, 0), got.type) for _ in range(2)] == [(4, 5), (3, 2)]
        libc.msgsnd(msqid, ctypes.byref(_Buffer(9, b"left alone")), 10, 0)
        with made.stack:
            restore_queues(made)
        found = sysv.msg_look(msqid)
        assert found is not None and found.messages == 1
