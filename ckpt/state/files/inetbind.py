"""Binding a restored IPv4 or IPv6 socket where the original stood, also where a plain bind would be refused."""

from __future__ import annotations

import errno

from ckpt.errors import KernelError
from ckpt.kernel import sock_diag, sockets
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
            # The original was there before the connections that have ended since.
            if not sock_diag.forget_ended(endpoint(payload.name)):
                raise
        else:
            raise
        sockets.bind(fd, payload.name)
