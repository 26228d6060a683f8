"""Packets that wait in raw and ping sockets, read in the kernel's memory: a peek shows only the first."""

from __future__ import annotations

import socket
import struct

from ckpt.kernel import sockets
from ckpt.kernel import uapi_socket as u
from ckpt.kernel.accept_queue import buffers_of, data_of, sock_of
from ckpt.kernel.btf import kernel_types
from ckpt.kernel.kernel_memory import KernelMemory

_IPV6_HEADER = 40


def packets(fd: int, family: int, protocol: int, headers: bool) -> list[bytes]:
    """Whole IP packets, oldest first. `headers`: the socket's messages hold the IP header (raw IPv4).

    Unsupported where the kernel's memory cannot be read.
    """
    with KernelMemory() as memory:
        return [_packet(memory, skb, family, protocol, headers) for skb in buffers_of(memory, sock_of(memory, fd))]


def _packet(memory: KernelMemory, skb: int, family: int, protocol: int, headers: bool) -> bytes:
    types = kernel_types()
    data = data_of(memory, skb)
    if headers:
        return data
    head = memory.u64(skb + types.offset("sk_buff", "head"))
    offset = memory.read(skb + types.offset("sk_buff", "network_header"), 2)
    at = head + int.from_bytes(offset, "little")
    if family == u.AF_INET:
        size = (memory.read(at, 1)[0] & 15) * 4
        return memory.read(at, size) + data
    header = bytearray(memory.read(at, _IPV6_HEADER))
    # Extension headers are left out.
    struct.pack_into(">HB", header, 4, len(data), protocol)
    return bytes(header) + data


def inject(packet: bytes) -> None:
    """Have the packet arrive at the loopback interface."""
    if packet[0] >> 4 == 4:
        family, to = u.AF_INET, struct.pack("<HH4s8x", u.AF_INET, 0, packet[16:20])
    else:
        family, to = u.AF_INET6, struct.pack("<HHI16sI", u.AF_INET6, 0, 0, packet[24:40], 0)
    with socket.socket(family, socket.SOCK_RAW, u.IPPROTO_RAW) as sender:
        sender.setsockopt(socket.SOL_SOCKET, u.SO_BINDTODEVICE, b"lo\0")
        sender.setsockopt(socket.SOL_SOCKET, u.SO_BROADCAST, 1)
        sockets.send(sender.fileno(), packet, to=to)
