"""Connections that wait to be accepted, which no descriptor leads to."""

from __future__ import annotations

from dataclasses import dataclass

from ckpt.errors import Unsupported


@dataclass(frozen=True, slots=True)
class Waiting:
    """One of them."""

    local: bytes  # port and 16 bytes of address, IPv4 as mapped into IPv6
    remote: bytes
    data: bytes  # received
    ended: bool  # the client has sent its FIN


def tcp(listener: int) -> list[Waiting]:
    """Of a TCP listener, the next to be accepted first."""
    raise Unsupported("no way into the kernel")
