"""What ICMP told a UDP socket and its task has not fetched: SO_ERROR and the error queue. A look would take them."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ckpt.kernel import raw_queue
from ckpt.kernel import uapi_socket as u
from ckpt.kernel.accept_queue import buffers_of, data_of, sock_of
from ckpt.kernel.btf import kernel_types
from ckpt.kernel.datagrams import checksum
from ckpt.kernel.kernel_memory import KernelMemory


@dataclass(frozen=True, slots=True)
class IcmpError:
    """One entry of the error queue: struct sock_extended_err, and the datagram that it is about."""

    origin: int  # SO_EE_ORIGIN_*
    type: int
    code: int
    offender: bytes  # who said so, 4 or 16 bytes
    host: bytes  # where the datagram went
    port: int
    data: bytes


def read(fd: int, family: int) -> tuple[int, list[IcmpError]]:
    """sk_err and the error queue. Unsupported where the kernel's memory cannot be read."""
    types = kernel_types()
    with KernelMemory() as memory:
        sk = sock_of(memory, fd)
        error = memory.u32(sk + types.offset("sock", "sk_err"))
        found = [_entry(memory, skb, family) for skb in buffers_of(memory, sk, "sk_error_queue")]
    return error, found


def _entry(memory: KernelMemory, skb: int, family: int) -> IcmpError:
    types = kernel_types()
    control = skb + types.offset("sk_buff", "cb")
    _errno, origin, kind, code = struct.unpack("<IBBB", memory.read(control + types.offset("sock_exterr_skb", "ee"), 7))
    offset, port = struct.unpack("<H2s", memory.read(control + types.offset("sock_exterr_skb", "addr_offset"), 4))
    header = memory.u64(skb + types.offset("sk_buff", "head"))
    header += int.from_bytes(memory.read(skb + types.offset("sk_buff", "network_header"), 2), "little")
    ipv4 = origin == u.SO_EE_ORIGIN_ICMP
    offender = memory.read(header + 12, 4) if ipv4 else memory.read(header + 8, 16)
    host = memory.read(header + offset, 4 if ipv4 else 16)
    return IcmpError(origin, kind, code, offender, host, int.from_bytes(port, "big"), data_of(memory, skb))


def inject(error: IcmpError, local: bytes, port: int, protocol: int) -> None:
    """Have the ICMP message come to the UDP socket at `local` (4 or 16 bytes) and `port` once more."""
    udp = struct.pack(">HHHH", port, error.port, 8 + len(error.data), 0) + error.data
    if len(local) == 4:
        quoted = _ipv4(local, error.host, protocol, udp)
        message = struct.pack(">BBHI", error.type, error.code, 0, 0) + quoted
        message = message[:2] + struct.pack(">H", checksum(message)) + message[4:]
        raw_queue.inject(_ipv4(error.offender, local, u.IPPROTO_ICMP, message))
        return
    quoted = _ipv6(local, error.host, protocol, udp)
    message = struct.pack(">BBHI", error.type, error.code, 0, 0) + quoted
    pseudo = error.offender + local + struct.pack(">IHBB", len(message), 0, 0, u.IPPROTO_ICMPV6)
    message = message[:2] + struct.pack(">H", checksum(pseudo + message)) + message[4:]
    raw_queue.inject(_ipv6(error.offender, local, u.IPPROTO_ICMPV6, message))


def _ipv4(source: bytes, to: bytes, protocol: int, body: bytes) -> bytes:
    return struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 0, 0, 64, protocol, 0, source, to) + body


def _ipv6(source: bytes, to: bytes, protocol: int, body: bytes) -> bytes:
    return struct.pack(">IHBB", 6 << 28, len(body), protocol, 64) + source + to + body
