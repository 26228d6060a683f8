"""Packets with a source of our choice, sent to a socket of this host: UDP datagrams and a TCP peer's FIN."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping

from ckpt.errors import NotPermitted
from ckpt.kernel import sockets
from ckpt.kernel import uapi_socket as u

_MAPPED = b"\0" * 10 + b"\xff\xff"
_LOOPBACK4 = b"\x7f\0\0\1"
_LOOPBACK6 = b"\0" * 15 + b"\1"


def allowed() -> bool:
    """Whether this process may send packets with a source of its choice, here (CAP_NET_RAW)."""
    try:
        os.close(sockets.make_socket(u.AF_INET, u.SOCK_RAW, u.IPPROTO_RAW))
    except NotPermitted:
        return False
    return True


def inject(
    source: bytes, destination: bytes, data: bytes, protocol: int, to: bytes = b"", hops: int = 64, tos: int = 0
) -> None:
    """Deliver `data` to the local UDP or UDP-Lite socket bound to `destination` as if from `source` (sockaddrs).

    `to`: the host in the packet, for a socket bound to any of them.
    """
    (from_host, from_port), (to_host, to_port) = _ends(source, destination, to)
    if len(from_host) == 4:
        pseudo = from_host + to_host + struct.pack(">BBH", 0, protocol, 8 + len(data))
    else:
        pseudo = from_host + to_host + struct.pack(">IHBB", 8 + len(data), 0, 0, protocol)
    # The third field is the length for UDP; for UDP-Lite what the checksum covers, 0 being everything.
    head = struct.pack(">HHH", from_port, to_port, 8 + len(data) if protocol == u.IPPROTO_UDP else 0)
    total = checksum(pseudo + head + b"\0\0" + data) or 0xFFFF
    _raw(from_host, to_host, protocol, head + struct.pack(">H", total) + data, hops, tos)


def send_as(
    source: bytes,
    destination: bytes,
    data: bytes,
    protocol: int,
    to: bytes,
    hops: int,
    tos: int,
    senders: Mapping[tuple[int, bytes, int], int],
) -> None:
    """`inject` without any right: from a socket that is bound to `source`, one of `senders` (protocol, host, port)
    or one made for it. KernelError when that is another host's, or somebody else has it."""
    (from_host, from_port), (to_host, to_port) = _ends(source, destination, to)
    four = len(from_host) == 4
    family, any_host = (u.AF_INET, bytes(4)) if four else (u.AF_INET6, bytes(16))
    made = -1
    found = (senders.get((protocol, host, from_port)) for host in (from_host, any_host))
    fd = next((one for one in found if one is not None), -1)
    try:
        if fd < 0:
            fd = made = sockets.make_socket(family, u.SOCK_DGRAM, protocol)
            ttl, kind = ((u.SOL_IP, u.IP_TTL), (u.SOL_IP, u.IP_TOS))
            if not four:
                ttl, kind = ((u.SOL_IPV6, u.IPV6_UNICAST_HOPS), (u.SOL_IPV6, u.IPV6_TCLASS))
            sockets.setsockopt(fd, *ttl, hops)
            sockets.setsockopt(fd, *kind, tos)
            sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_BROADCAST, 1)
            sockets.bind(fd, _sockaddr(from_host, from_port))
        sockets.send(fd, data, to=_sockaddr(to_host, to_port))
    finally:
        if made >= 0:
            os.close(made)


def _ends(source: bytes, destination: bytes, to: bytes) -> tuple[tuple[bytes, int], tuple[bytes, int]]:
    """Hosts and ports of a datagram: a socket bound to any host is reached at `to`, or over the loopback."""
    from_host, from_port = _split(source)
    to_host, to_port = _split(destination)
    if len(to) == len(from_host):
        to_host = to
    if len(to_host) != len(from_host) or not any(to_host):
        to_host = _LOOPBACK4 if len(from_host) == 4 else _LOOPBACK6
    return (from_host, from_port), (to_host, to_port)


def host(name: bytes) -> bytes:
    """The host in a sockaddr: 4 bytes for IPv4 and mapped addresses, else 16."""
    return _split(name)[0]


def _sockaddr(host: bytes, port: int) -> bytes:
    if len(host) == 4:
        return struct.pack("<H", u.AF_INET) + struct.pack(">H4s8x", port, host)
    return struct.pack("<H", u.AF_INET6) + struct.pack(">HI16sI", port, 0, host, 0)


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
