"""What the kernel keeps of a POSIX message queue and shows to nobody: messages, and what mq_notify was given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ckpt.errors import KernelError
from ckpt.kernel import uapi_ipc
from ckpt.kernel.accept_queue import data_of, sock_of
from ckpt.kernel.btf import kernel_types
from ckpt.kernel.kernel_memory import KernelMemory

_PAGE = 4096
_SEGMENT = 8  # sizeof(struct msg_msgseg)
_LIMIT = 1 << 20  # messages and nodes beyond which something is wrong


@dataclass(frozen=True, slots=True)
class Notification:
    """struct sigevent as mq_notify was given it."""

    value: int
    signo: int
    notify: int  # SIGEV_*
    cookie: bytes = b""  # with SIGEV_THREAD, what is sent through the netlink socket
    sock: int = 0  # the kernel's address of that socket


def messages(fd: int) -> list[tuple[int, bytes]]:
    """Priority and bytes of each message, those of one priority in their order.

    Unsupported where the kernel's memory cannot be read.
    """
    with KernelMemory() as memory:
        root = memory.u64(_queue(memory, fd) + kernel_types().offset("mqueue_inode_info", "msg_tree"))
        return list(_below(memory, root))


def notification(fd: int) -> Notification:
    """What the queue's owner asked for. Unsupported where the kernel's memory cannot be read."""
    types = kernel_types()
    with KernelMemory() as memory:
        queue = _queue(memory, fd)
        at = queue + types.offset("mqueue_inode_info", "notify")
        value, signo, how = memory.u64(at), memory.u32(at + 8), memory.u32(at + 12)
        if how != uapi_ipc.SIGEV_THREAD:
            return Notification(value, signo, how)
        cookie = data_of(memory, memory.u64(queue + types.offset("mqueue_inode_info", "notify_cookie")))
        sock = memory.u64(queue + types.offset("mqueue_inode_info", "notify_sock"))
        return Notification(value, signo, how, cookie[: uapi_ipc.NOTIFY_COOKIE_LEN], sock)


def sock_address(fd: int) -> int:
    """The kernel's address of a socket."""
    with KernelMemory() as memory:
        return sock_of(memory, fd)


def _queue(memory: KernelMemory, fd: int) -> int:
    types = kernel_types()
    inode = memory.u64(memory.file(fd) + types.offset("file", "f_inode"))
    return inode - types.offset("mqueue_inode_info", "vfs_inode")


def _below(memory: KernelMemory, node: int) -> Iterator[tuple[int, bytes]]:
    """The messages of a node of the tree, which holds those of one priority, and of all below it."""
    if not node:
        return
    types = kernel_types()
    leaf = node - types.offset("posix_msg_tree_node", "rb_node")
    yield from _below(memory, memory.u64(node + types.offset("rb_node", "rb_left")))
    priority = memory.u32(leaf + types.offset("posix_msg_tree_node", "priority"))
    head = leaf + types.offset("posix_msg_tree_node", "msg_list")
    at, count = memory.u64(head), 0
    while at != head:
        yield priority, _message(memory, at - types.offset("msg_msg", "m_list"))
        at, count = memory.u64(at), count + 1
        if count > _LIMIT:
            raise KernelError("a list in the kernel's memory has no end")
    yield from _below(memory, memory.u64(node + types.offset("rb_node", "rb_right")))


def _message(memory: KernelMemory, message: int) -> bytes:
    """struct msg_msg with the bytes behind it, and the segments of a long one."""
    types = kernel_types()
    header, left = types.size("msg_msg"), memory.u64(message + types.offset("msg_msg", "m_ts"))
    if left > _LIMIT << 4:
        raise KernelError(f"a message of {left} bytes is in the kernel's memory")
    part = min(left, _PAGE - header)
    data, left = memory.read(message + header, part), left - part
    segment = memory.u64(message + types.offset("msg_msg", "next"))
    while left:
        part = min(left, _PAGE - _SEGMENT)
        data += memory.read(segment + _SEGMENT, part)
        segment, left = memory.u64(segment), left - part
    return data
