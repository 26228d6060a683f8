"""Binding a restored IPv4 or IPv6 socket where the original stood, also where a plain bind would be refused."""

from __future__ import annotations

import errno

from ckpt.errors import KernelError
from ckpt.kernel import sock_diag, sockets, tcp_repair
from ckpt.kernel import uapi_socket as u
from ckpt.records.sockets import InetPayload
from ckpt.state.files.inetnames import endpoint


def bind(fd: int, payload: InetPayload) -> None:
    """Bind to the payload's name. What this sets for it comes back with the socket's own options."""
    try:
        sockets.bind(fd, payload.name)
    except KernelError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            # The host does not have the address (any more).
            ipv4 = payload.family == u.AF_INET
            sockets.setsockopt(fd, *((u.SOL_IP, u.IP_FREEBIND) if ipv4 else (u.SOL_IPV6, u.IPV6_FREEBIND)), 1)
        elif error.errno == errno.EADDRINUSE and payload.type == u.SOCK_STREAM:
            _beside(fd, payload)
            return
        else:
            raise
        sockets.bind(fd, payload.name)


def _beside(fd: int, payload: InetPayload) -> None:
    """The original was there before its port's connections: those that are held, and those that have ended since."""
    sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_REUSEADDR, 1)  # a held socket lets others in (SK_FORCE_REUSE)
    try:
        sockets.bind(fd, payload.name)
    except KernelError as error:
        if error.errno != errno.EADDRINUSE or not sock_diag.forget_ended(endpoint(payload.name)):
            raise
        sockets.bind(fd, payload.name)


def bind_client(fd: int, name: bytes) -> None:
    """Bind a socket that is to connect, also to a port that other connections have, as only connect(2) may share it."""
    reuse = sockets.getsockopt_int(fd, u.SOL_SOCKET, u.SO_REUSEADDR)
    sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_REUSEADDR, 1)  # its old self may be in TIME_WAIT
    try:
        sockets.bind(fd, name)
    except KernelError as error:
        if error.errno != errno.EADDRINUSE or not tcp_repair.allowed():
            raise
        sockets.setsockopt(fd, u.SOL_TCP, u.TCP_REPAIR, u.TCP_REPAIR_ON)
        try:
            sockets.bind(fd, name)
        finally:
            sockets.setsockopt(fd, u.SOL_TCP, u.TCP_REPAIR, u.TCP_REPAIR_OFF)
    sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_REUSEADDR, reuse)
