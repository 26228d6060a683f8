"""Datagrams that a UDP socket has begun (UDP_CORK, MSG_MORE), read in the kernel's memory."""

from __future__ import annotations

from ckpt.kernel import sockets
from ckpt.kernel import uapi_socket as u
from ckpt.kernel.accept_queue import buffers_of, data_of, sock_of
from ckpt.kernel.btf import kernel_types
from ckpt.kernel.kernel_memory import KernelMemory

_UDP_HEADER = 8
_MAPPED = b"\0" * 10 + b"\xff\xff"


def may_have_begun(fd: int) -> bool:
    """Whether the socket holds what was not sent yet, or is on its way through a device."""
    return sockets.ioctl_int(fd, u.SIOCOUTQ) > 0


def begun(fd: int) -> tuple[bytes, bytes] | None:
    """The bytes so far, and where they go: the port and 16 bytes of address, IPv4 as mapped into IPv6.

    Unsupported where the kernel's memory cannot be read.
    """
    with KernelMemory() as memory:
        types = kernel_types()
        sk = sock_of(memory, fd)
        family = memory.u32(sk + types.offset("udp_sock", "pending"))
        if family not in (u.AF_INET, u.AF_INET6):
            return None
        data = b"".join(_body(memory, skb) for skb in buffers_of(memory, sk, "sk_write_queue"))
        flow = sk + types.offset("inet_sock", "cork") + types.offset("inet_cork_full", "fl")
        name, size, before = ("flowi4", 4, _MAPPED) if family == u.AF_INET else ("flowi6", 16, b"")
        port = memory.read(flow + types.offset(name, "uli"), 2)  # dport is the first of its ports
        host = memory.read(flow + types.offset(name, "daddr"), size)
        return data[_UDP_HEADER:], port + before + host


def _body(memory: KernelMemory, skb: int) -> bytes:
    """What stands behind the network header: in the first buffer the room for UDP's, then data."""
    types = kernel_types()
    offset = memory.read(skb + types.offset("sk_buff", "transport_header"), 2)
    at = memory.u64(skb + types.offset("sk_buff", "head")) + int.from_bytes(offset, "little")
    return data_of(memory, skb)[at - memory.u64(skb + types.offset("sk_buff", "data")) :]
