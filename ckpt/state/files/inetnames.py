"""Addresses of IPv4 and IPv6 sockets: struct sockaddr, and the keys that compare them."""

from __future__ import annotations

import struct

from ckpt.kernel import uapi_socket as u

MAPPED = b"\0" * 10 + b"\xff\xff"
"""What IPv4 addresses begin with where they stand as IPv6."""


def endpoint(name: bytes) -> bytes:
    """Port and address as a key, the same for IPv4 and for IPv4 mapped into IPv6."""
    if int.from_bytes(name[:2], "little") == u.AF_INET:
        return name[2:4] + MAPPED + name[4:8]
    return name[2:4] + name[8:24]


def address_of(family: int, end: bytes) -> bytes:
    """The sockaddr of an endpoint."""
    if family == u.AF_INET:
        return struct.pack("<H2s4s8x", family, end[:2], end[14:18])
    return struct.pack("<H2sI16sI", family, end[:2], 0, end[2:18], 0)


def _family(name: bytes) -> int:
    return int.from_bytes(name[:2], "little")


def port_of(name: bytes) -> int:
    return int.from_bytes(name[2:4], "big")


def host_of(name: bytes) -> bytes:
    return name[4:8] if _family(name) == u.AF_INET else name[8:24]


def show(name: bytes) -> str:
    """An address for people: "127.0.0.1:80", "[::1]:80"."""
    import ipaddress

    address = host_of(name)
    if len(address) not in (4, 16):
        return "an unnamed socket"
    host = ipaddress.ip_address(address)
    return f"{host}:{port_of(name)}" if host.version == 4 else f"[{host}]:{port_of(name)}"
