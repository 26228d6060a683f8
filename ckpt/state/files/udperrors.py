"""Errors that a UDP socket was told by ICMP and the task has not fetched: told again by the same messages."""

from __future__ import annotations

import errno

from ckpt.errors import KernelError
from ckpt.kernel import error_queue, sockets
from ckpt.kernel import uapi_socket as u
from ckpt.kernel.error_queue import IcmpError
from ckpt.records.sockets import InetPayload, SocketError
from ckpt.state.context import CollectContext
from ckpt.state.files.base import FileView
from ckpt.state.files.inetnames import MAPPED, endpoint

FETCH = "dump again when the task has fetched it"
_UNREACHABLE = {u.SO_EE_ORIGIN_ICMP: 3, u.SO_EE_ORIGIN_ICMP6: 1}  # ICMP_DEST_UNREACH, ICMPV6_DEST_UNREACH
_TOO_BIG = 4  # ICMP_FRAG_NEEDED: it would change the route
_CODES = {
    4: {errno.ECONNREFUSED: 3, errno.ENOPROTOOPT: 2},
    16: {errno.ECONNREFUSED: 4, errno.EACCES: 1},
}


def collect(
    view: FileView, fd: int, family: int, peer: bytes, context: CollectContext
) -> tuple[int, tuple[SocketError, ...]]:
    """SO_ERROR and the error queue; refuses what ICMP cannot bring about."""
    if not sockets.failed(fd):
        return 0, ()
    try:
        error, entries = error_queue.read(fd, family)
    except KernelError as failure:
        context.refuse(view.pid, view.subject, f"has an error that cannot be read: {failure.message}", FETCH)
        return 0, ()
    for entry in entries:
        if entry.type != _UNREACHABLE.get(entry.origin) or (len(entry.host) == 4 and entry.code == _TOO_BIG):
            context.refuse(view.pid, view.subject, "has something in its error queue that cannot be made again", FETCH)
            return 0, ()
    if error and not entries and (not peer or error not in _CODES[len(_host(peer))]):
        context.refuse(view.pid, view.subject, f"has error {error}, which cannot be made again", FETCH)
    found = (SocketError(e.origin, e.type, e.code, e.offender, e.host, e.port, e.data) for e in entries)
    return error, tuple(found)


def restore(fd: int, payload: InetPayload) -> None:
    """Called when the socket stands with its peer and its options."""
    errors = [IcmpError(e.origin, e.type, e.code, e.offender, e.host, e.port, e.data) for e in payload.errors]
    if payload.error and not errors:
        host, port = _host(payload.peer), int.from_bytes(payload.peer[2:4], "big")
        kind = 3 if len(host) == 4 else 1
        errors = [IcmpError(0, kind, _CODES[len(host)][payload.error], host, host, port, b"")]
    port = int.from_bytes(payload.name[2:4], "big")
    for one in errors:
        local = _host(sockets.getsockname(fd))
        if not any(local) or len(local) != len(one.host):
            local = b"\x7f\0\0\1" if len(one.host) == 4 else bytes(15) + b"\1"
        error_queue.inject(one, local, port, payload.protocol)
    if errors and not payload.error:
        sockets.getsockopt_int(fd, u.SOL_SOCKET, u.SO_ERROR)


def _host(name: bytes) -> bytes:
    """4 bytes for IPv4, also mapped into IPv6, else 16."""
    host = endpoint(name)[2:]
    return host[12:] if host.startswith(MAPPED) else host
