"""Whom the datagram sockets of an image are connected to."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from ckpt.errors import KernelError, RestoreError
from ckpt.kernel import sockets
from ckpt.kernel import uapi_socket as u
from ckpt.records.sockets import UnixPayload
from ckpt.state.files.unixnames import address, show, sun_path

if TYPE_CHECKING:
    from ckpt.state.files.unixbuild import Sockets


NOBODY = struct.pack("<H14x", 0)
"""AF_UNSPEC: connecting to it takes the peer away."""


def part_halves(all_: Sockets) -> None:
    """Let the one end of a pair leave the other, which hears of it (ECONNRESET) if what it has sent is lost by that."""
    for file_id, other in all_.halves.items():
        if all_.payloads[file_id].reset:
            sockets.send(all_.made[file_id], b"\0")
        sockets.connect(all_.made[other], NOBODY)
        if all_.payloads[other].connected:
            _connect_anew(all_, other)


def connect_datagrams(all_: Sockets) -> None:
    """Connect those that are no pair, when every queue is full: a connected socket takes nothing from others.

    For the same reason each is connected when all that have it as their peer are, but for its own peer.
    """
    left = []
    for file_id, payload in all_.payloads.items():
        if payload.type != u.SOCK_DGRAM or not payload.connected or file_id in all_.lost:
            continue
        if file_id not in all_.pairs() and file_id not in all_.halves and file_id not in all_.halves.values():
            left.append(file_id)
    while left:
        awaited = {peer for one in left if (peer := all_.peer_of(one)) is not None and all_.mutual(one) is None}
        ready = [one for one in left if one not in awaited] or left
        for file_id in ready:
            _connect_anew(all_, file_id)
        left = [one for one in left if one not in ready]


def made_by_name(all_: Sockets) -> set[int]:
    """The ends of mutual connections that cannot be made as pairs, for others were let in before they were connected.

    Others have one of them for their peer, or have sent what waits there.
    """
    found: set[int] = set()
    for file_id, payload in all_.payloads.items():
        peer = all_.peer_of(file_id)
        if payload.type != u.SOCK_DGRAM or peer is None:
            continue
        between = all_.mutual(peer)  # the peer's own peer, if that has it as its peer, too
        if between is not None and between != file_id:
            found |= {peer, between}
        elif between is not None and any(sun_path(m.name) != all_.payloads[peer].name for m in payload.queue):
            found |= {file_id, peer}
    return {one for one in found if all_.payloads[one].name and all_.payloads[one].peer_name}


def _connect_anew(all_: Sockets, file_id: int) -> None:
    payload = all_.payloads[file_id]
    if not payload.peer_name:
        raise RestoreError(f"datagram socket {payload.ino} is connected to a nameless one, not connected back")
    if payload.peer_ino:
        _connect(all_, file_id, payload)
    else:
        _connect_to_closed(all_, file_id, payload)


def _connect(all_: Sockets, file_id: int, payload: UnixPayload) -> None:
    peer = all_.peer_of(file_id)
    try:
        if peer is not None:
            all_.names.connect(all_.made[file_id], all_.made[peer])
        else:
            sockets.connect(all_.made[file_id], address(payload.peer_name))
    except KernelError as error:
        if peer is None and error.errno in (errno.ENOENT, errno.ECONNREFUSED):
            # A service outside, as /dev/log, that is not there now: as if it had ended while the task ran.
            _connect_to_closed(all_, file_id, payload)
            return
        where = show(payload.peer_name)
        raise RestoreError(f"cannot connect a datagram socket to {where}: {error.message}") from error


def _connect_to_closed(all_: Sockets, file_id: int, payload: UnixPayload) -> None:
    """Its peer is closed: sending fails until it connects again. A stand-in has the name for the moment."""
    name = payload.peer_name
    stand_in = sockets.make_socket(u.AF_UNIX, u.SOCK_DGRAM)
    try:
        all_.names.bind(stand_in, name, all_.names.passing_place(name))
        all_.names.connect(all_.made[file_id], stand_in)
    except (KernelError, RestoreError):
        pass  # somebody has the name now: it stays unconnected, and sending fails either way
    finally:
        all_.names.close(stand_in)
