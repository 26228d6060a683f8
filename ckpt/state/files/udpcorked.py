"""A datagram that a UDP socket has begun and not sent (UDP_CORK, MSG_MORE): begun again with the same bytes."""

from __future__ import annotations

from ckpt.errors import KernelError
from ckpt.kernel import corked, sockets
from ckpt.kernel import uapi_socket as u
from ckpt.records.sockets import InetPayload, QueuedMessage
from ckpt.state.context import CollectContext
from ckpt.state.files.base import FileView
from ckpt.state.files.inetnames import address_of


def collect(view: FileView, fd: int, family: int, peer: bytes, context: CollectContext) -> QueuedMessage | None:
    """What there is of it, with the address that it was begun for; refuses what cannot be read."""
    if not corked.may_have_begun(fd):
        return None
    try:
        found = corked.begun(fd)
    except KernelError as error:
        reason = f"may have begun a datagram (UDP_CORK, MSG_MORE), which cannot be read: {error.message}"
        hint = "run ckpt with CAP_BPF and CAP_PERFMON, or let the task send it, then dump again"
        context.refuse(view.pid, view.subject, reason, hint)
        return None
    return QueuedMessage(found[0], name=b"" if peer else address_of(family, found[1])) if found else None


def restore(fd: int, payload: InetPayload) -> None:
    """When the socket is connected, and not shut yet."""
    if payload.begun is not None:
        sockets.send(fd, payload.begun.data, to=payload.begun.name, flags=u.MSG_MORE)
