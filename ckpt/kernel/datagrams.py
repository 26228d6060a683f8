"""Packets with a source of our choice, sent to a socket of this host: UDP datagrams and a TCP peer's FIN."""

from __future__ import annotations

import os
import struct

from ckpt.kernel import sockets
from ckpt.kernel import uapi_socket as u

_MAPPED = b"\0" * 10 + b"\xff\xff"
_LOOPBACK6 = b"\0" * 15 + b"\1"


def inject(
    source: bytes, destination: bytes, data: bytes, protocol: int, to: bytes = b"", hops: int = 64, tos: int = 0
) -> None:
    """Deliver `data` to the local UDP or UDP-Lite socket bound to `destination` as if from `source` (sockaddrs).

    `to`: the host in the packet, for a socket bound to any of them.
    """
    from_host, from_port = _split(source)
    to_host, to_port = _split(destination)
    if len(to) == len(from_host):
        to_host = to
    if len(from_host) == 4:
        known = len(to_host) == 4 and any(to_host)
        to_host = to_host if known else b"\x7f\0\0\1"
        pseudo = from_host + to_host + struct.pack(">BBH", 0, protocol, 8 + len(data))
    else:
        to_host = to_host if any(to_host) else _LOOPBACK6
        pseudo = from_host + to_host + struct.pack(">IHBB", 8 + len(data), 0, 0, protocol)
    # The third field is the length for UDP; for UDP-Lite what the checksum covers, 0 being everything.
    head = struct.pack(">HHH", from_port, to_port, 8 + len(data) if protocol == u.IPPROTO_UDP else 0)
    total = checksum(pseudo + head + b"\0\0" + data) or 0xFFFF
    _raw(from_host, to_host, protocol, head + struct.pack(">H", total) + data, hops, tos)


def inject_fin(source: bytes, destination: bytes, seq: int, ack: int) -> None:
    """Deliver the FIN of the TCP peer `source` to the local socket `destination`."""
    _inject_flags(source, destination, seq, ack, u.TCP_FLAG_FIN | u.TCP_FLAG_ACK)


def inject_reset(source: bytes, destination: bytes, seq: int, ack: int) -> None:
    """Deliver the RST of the TCP peer `source` to the local socket `destination`."""
    _inject_flags(source, destination, seq, ack, u.TCP_FLAG_RST | u.TCP_FLAG_ACK)


def inject_segment(source: bytes, destination: bytes, seq: int, ack: int, data: bytes, *, urgent: bool) -> None:
    """Deliver data of the TCP peer `source` to the local socket `destination`; `urgent`: its first byte is."""
    # The urgent pointer stays 0: both readings of RFC 793 (net.ipv4.tcp_stdurg) take it for the first byte then.
    flags = u.TCP_FLAG_ACK | (u.TCP_FLAG_URG if urgent else 0)
    _inject_flags(source, destination, seq, ack, flags, data)


def _inject_flags(source: bytes, destination: bytes, seq: int, ack: int, flags: int, data: bytes = b"") -> None:
    from_host, from_port = _split(source)
    to_host, to_port = _split(destination)
    words = 5 << 12 | flags  # a header of 5 words
    fields = (from_port, to_port, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, words, 0xFFFF)
    if len(from_host) == 4:
        pseudo = from_host + to_host + struct.pack(">BBH", 0, u.IPPROTO_TCP, 20 + len(data))
    else:
        pseudo = from_host + to_host + struct.pack(">IHBB", 20 + len(data), 0, 0, u.IPPROTO_TCP)
    total = checksum(pseudo + struct.pack(">HHIIHHHH", *fields, 0, 0) + data)
    _raw(from_host, to_host, u.IPPROTO_TCP, struct.pack(">HHIIHHHH", *fields, total, 0) + data)


def _is_mapped(host: bytes) -> bool:
    return len(host) == 16 and host.startswith(_MAPPED)


def _split(name: bytes) -> tuple[bytes, int]:
    """Host (4 bytes for IPv4 and mapped addresses, else 16) and port."""
    port = int.from_bytes(name[2:4], "big")
    if int.from_bytes(name[:2], "little") == u.AF_INET:
        return name[4:8], port
    host = name[8:24]
    return (host[12:], port) if _is_mapped(host) else (host, port)


def _raw(from_host: bytes, to_host: bytes, protocol: int, payload: bytes, hops: int = 64, tos: int = 0) -> None:
    """One IP packet; a raw socket of IPPROTO_RAW takes it with its header."""
    if len(from_host) == 4:
        family = u.AF_INET
        size = 20 + len(payload)
        header = struct.pack(">BBHHHBBH4s4s", 0x45, tos, size, 0, 0, hops, protocol, 0, from_host, to_host)
        to = struct.pack("<HH4s8x", family, 0, to_host)
    else:
        family = u.AF_INET6
        header = struct.pack(">IHBB", 6 << 28 | tos << 20, len(payload), protocol, hops) + from_host + to_host
        to = struct.pack("<HHI16sI", family, 0, 0, to_host, 0)
    fd = sockets.make_socket(family, u.SOCK_RAW, u.IPPROTO_RAW)
    try:
        sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_SNDBUFFORCE, 1 << 18)
        sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_BROADCAST, 1)
        if len(to_host) == 4 and to_host[0] >> 4 == 14:  # a multicast group
            sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_BINDTODEVICE, b"lo\0")
        sockets.send(fd, header + payload, to=to)
    finally:
        os.close(fd)


def checksum(data: bytes) -> int:
    """The Internet checksum."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
