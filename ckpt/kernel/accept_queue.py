"""Queues that no system call shows: of connections that wait to be accepted, to which no descriptor leads, and of
sockets with an error pending. They are read in the kernel's memory."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ckpt.errors import KernelError
from ckpt.kernel import uapi_socket as u
from ckpt.kernel.btf import kernel_types
from ckpt.kernel.kernel_memory import KernelMemory

_MAPPED = b"\0" * 10 + b"\xff\xff"
_LIMIT = 1 << 16  # elements of a list, and bytes of a buffer's part, beyond which something is wrong
_FRAGMENT = 16  # sizeof(skb_frag_t): the page, its length, its offset


@dataclass(frozen=True, slots=True)
class Waiting:
    """A TCP connection that waits."""

    local: bytes  # port and 16 bytes of address, IPv4 as mapped into IPv6
    remote: bytes
    data: bytes  # received
    ended: bool  # the client has sent its FIN
    received: int  # sequence number behind the last byte received (and the FIN)


@dataclass(frozen=True, slots=True)
class Message:
    """One write on a Unix connection that waits."""

    data: bytes
    pid: int  # of the sender's credentials; 0: none were kept
    uid: int
    gid: int
    files: tuple[int, ...]  # that come with it: addresses of struct file


def tcp(listener: int) -> list[Waiting]:
    """Of a TCP listener, the next to be accepted first. Unsupported where the kernel's memory cannot be read."""
    with KernelMemory() as memory:
        types = kernel_types()
        queue = sock_of(memory, listener) + types.offset("inet_connection_sock", "icsk_accept_queue")
        request = memory.u64(queue + types.offset("request_sock_queue", "rskq_accept_head"))
        found = []
        while request:
            found.append(_tcp_child(memory, memory.u64(request + types.offset("request_sock", "sk"))))
            request = memory.u64(request + types.offset("request_sock", "dl_next"))
            _sane(len(found))
        return found


def unix(listener: int) -> list[list[Message]]:
    """Of a Unix listener, the messages of each connection, the next to be accepted first."""
    with KernelMemory() as memory:
        types = kernel_types()
        child = types.offset("sk_buff", "sk")
        return [
            [_unix_message(memory, skb) for skb in buffers_of(memory, memory.u64(one + child))]
            for one in buffers_of(memory, sock_of(memory, listener))
        ]


def unix_queue(fd: int) -> list[Message]:
    """What waits in a Unix socket, without a look through recvmsg, which would fetch the socket's error."""
    with KernelMemory() as memory:
        return [_unix_message(memory, skb) for skb in buffers_of(memory, sock_of(memory, fd))]


def sock_of(memory: KernelMemory, fd: int) -> int:
    return memory.u64(memory.private(fd) + kernel_types().offset("socket", "sk"))


def _tcp_child(memory: KernelMemory, sk: int) -> Waiting:
    types = kernel_types()

    def common(name: str, size: int) -> bytes:
        return memory.read(sk + types.offset("sock_common", name), size)

    local, remote = common("skc_rcv_saddr", 4), common("skc_daddr", 4)
    if int.from_bytes(common("skc_family", 2), "little") == u.AF_INET6:
        local, remote = common("skc_v6_rcv_saddr", 16), common("skc_v6_daddr", 16)
    else:
        local, remote = _MAPPED + local, _MAPPED + remote
    port = int.from_bytes(common("skc_num", 2), "little").to_bytes(2, "big")
    copied = memory.u32(sk + types.offset("tcp_sock", "copied_seq"))
    received = memory.u32(sk + types.offset("tcp_sock", "rcv_nxt"))
    ended = common("skc_state", 1)[0] == u.TCP_CLOSE_WAIT
    size = (received - copied & 0xFFFFFFFF) - ended
    data = b""
    for skb in buffers_of(memory, sk):
        seq = memory.u32(skb + types.offset("sk_buff", "cb") + types.offset("tcp_skb_cb", "seq"))
        part = data_of(memory, skb)
        data += part[(copied + len(data) - seq) & 0xFFFFFFFF :]  # parts may overlap
    if len(data) < size:
        raise KernelError(f"only {len(data)} of {size} bytes of a connection not accepted yet were found")
    return Waiting(port + local, common("skc_dport", 2) + remote, data[:size], ended, received)


def _unix_message(memory: KernelMemory, skb: int) -> Message:
    types = kernel_types()
    control = skb + types.offset("sk_buff", "cb")

    def field(name: str) -> int:
        return control + types.offset("unix_skb_parms", name)

    pid = memory.u64(field("pid"))
    number = memory.u32(pid + types.offset("pid", "numbers") + types.offset("upid", "nr")) if pid else 0
    data = data_of(memory, skb)[memory.u32(field("consumed")) :]
    return Message(
        data, number, memory.u32(field("uid")), memory.u32(field("gid")), _files(memory, memory.u64(field("fp")))
    )


def _files(memory: KernelMemory, rights: int) -> tuple[int, ...]:
    """What a struct scm_fp_list holds."""
    if not rights:
        return ()
    types = kernel_types()
    count = int.from_bytes(memory.read(rights + types.offset("scm_fp_list", "count"), 2), "little")
    if count > u.SCM_MAX_FD:
        raise KernelError(f"{count} files in one message in the kernel's memory")
    return struct.unpack(f"<{count}Q", memory.read(rights + types.offset("scm_fp_list", "fp"), 8 * count))


def buffers_of(memory: KernelMemory, sk: int, queue: str = "sk_receive_queue") -> Iterator[int]:
    """The struct sk_buffs of a socket's receive queue, or error queue."""
    head = sk + kernel_types().offset("sock", queue)
    at, count = memory.u64(head), 0
    while at != head:
        yield at
        at, count = memory.u64(at), count + 1
        _sane(count)


def data_of(memory: KernelMemory, skb: int) -> bytes:
    """All bytes of a buffer: its linear part, its pages, and the buffers chained to it."""
    types = kernel_types()

    def number(name: str, read: str = "u32") -> int:
        return int(getattr(memory, read)(skb + types.offset("sk_buff", name)))

    length, behind = number("len"), number("data_len")
    _sane(length >> 12)
    parts = [memory.read(number("data", "u64"), length - behind)] if length > behind else []
    if behind:
        shared = number("head", "u64") + number("end")
        count = memory.read(shared + types.offset("skb_shared_info", "nr_frags"), 1)[0]
        table = memory.read(shared + types.offset("skb_shared_info", "frags"), count * _FRAGMENT)
        for page, size, offset in struct.iter_unpack("<QII", table):
            parts.append(memory.read(memory.page(page) + offset, size))
        chained = memory.u64(shared + types.offset("skb_shared_info", "frag_list"))
        while chained:
            parts.append(data_of(memory, chained))
            chained = memory.u64(chained)  # sk_buff.next is the first member
    whole = b"".join(parts)
    if len(whole) != length:
        raise KernelError(f"{len(whole)} of {length} bytes of a socket's buffer were found")
    return whole


def _sane(count: int) -> None:
    if count > _LIMIT:
        raise KernelError("a list in the kernel's memory has no end")
