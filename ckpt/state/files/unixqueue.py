"""Filling the queues of restored Unix sockets: data, senders' names, credentials, files in flight."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ckpt.errors import KernelError, RestoreError
from ckpt.kernel import sockets
from ckpt.kernel import uapi_socket as u
from ckpt.records.sockets import QueuedMessage
from ckpt.state.files.unixnames import show, sun_path

if TYPE_CHECKING:
    from ckpt.state.files.unixbuild import Sockets


def fill_streams(all_: Sockets) -> None:
    """Stream and seqpacket data, written into the other end."""
    for file_id, payload in all_.payloads.items():
        if payload.type == u.SOCK_DGRAM or not payload.queue or payload.listening:
            continue
        peer = all_.peer_of(file_id)
        sender = all_.made[peer] if peer is not None else all_.lost.get(file_id)
        if sender is None:
            raise RestoreError(f"the data queued in Unix socket {payload.ino} has no sender")
        send_all(all_, sender, payload.queue)


def send_all(all_: Sockets, sender: int, messages: Sequence[QueuedMessage]) -> None:
    """Send messages on a connection."""
    _roomy(sender, messages)
    for message in messages:
        _send(all_, sender, message)


def fill_halves(all_: Sockets) -> None:
    """Datagrams of a pair's one end, sent by the other before it is connected elsewhere."""
    for file_id, other in all_.halves.items():
        for message in all_.payloads[file_id].queue:
            _roomy(all_.made[other], all_.payloads[file_id].queue)
            _send(all_, all_.made[other], message)


def fill_datagrams(all_: Sockets) -> None:
    """Datagrams, each from a socket with the sender's name."""
    owners = {p.name: all_.made[i] for i, p in all_.payloads.items() if p.type == u.SOCK_DGRAM and p.name}
    for file_id, payload in all_.payloads.items():
        if payload.type != u.SOCK_DGRAM or file_id in all_.halves or file_id in all_.living:
            continue
        peer = all_.pairs().get(file_id)
        other = all_.lost.get(file_id) if peer is None else all_.made[peer]
        for message in payload.queue:
            sender_name = sun_path(message.name)
            if other is not None:
                # A socket that is connected takes datagrams from its peer alone.
                _roomy(other, payload.queue)
                _send(all_, other, message)
                continue
            if not payload.name:
                raise RestoreError(f"datagram socket {payload.ino} holds data, but nothing leads to it")
            sender = owners.get(sender_name) if sender_name else None
            passing = sockets.make_socket(u.AF_UNIX, u.SOCK_DGRAM) if sender is None else -1
            try:
                if sender_name and passing >= 0:
                    all_.names.bind(passing, sender_name, all_.names.passing_place(sender_name))
                source = passing if sender is None else sender
                _roomy(source, payload.queue)
                _send(all_, source, message, all_.made[file_id])
            finally:
                if passing >= 0:
                    all_.names.close(passing)


def _roomy(sender: int, messages: Sequence[QueuedMessage]) -> None:
    """Queued data counts against its sender's buffer, whose true size is set at the end."""
    need = sum(len(message.data) * 2 + 4096 for message in messages)
    if sockets.getsockopt_int(sender, u.SOL_SOCKET, u.SO_SNDBUF) < need * 2:
        # What a sender could queue under the limit of this host, net.core.wmem_max, he can queue again.
        sockets.make_room(sender, u.SO_SNDBUFFORCE, u.SO_SNDBUF, min(need * 2, 0x3FFFFFFF))


def _send(all_: Sockets, sender: int, message: QueuedMessage, to: int = -1) -> None:
    """`to`: the socket that it goes to, unless the sender is connected to it."""
    fds = tuple(all_.context.opened[file_id] for file_id in message.files)
    left = message.data
    while True:
        try:
            taken = _try(all_, sender, left, to, fds, message)
        except KernelError as error:
            what = f"{len(message.data)} queued bytes for {show(all_.names.bound.get(to, (b'', ''))[0])}"
            raise RestoreError(f"{what} cannot be sent again: {error.message}") from error
        left = left[taken:]
        fds = ()
        if not left:
            return


def _try(all_: Sockets, sender: int, data: bytes, to: int, fds: tuple[int, ...], message: QueuedMessage) -> int:
    """One send, with the old sender's credentials if that pid still stands, else with our pid."""
    with all_.names.reach(to) as address:
        if message.urgent:
            return sockets.send_urgent(sender, data)
        if len(message.credentials) != 3:
            return sockets.send(sender, data, to=address, fds=fds)
        pid, uid, gid = message.credentials
        try:
            with all_.actors.standing(pid):
                return sockets.send(sender, data, to=address, fds=fds, credentials=(pid, uid, gid))
        except KernelError as error:
            if error.errno not in (errno.ESRCH, errno.EPERM):
                raise
            own = (os.getpid(), uid, gid)
            return sockets.send(sender, data, to=address, fds=fds, credentials=own)
