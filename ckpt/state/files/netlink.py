"""Netlink sockets: protocol, port, groups and options, and what other sockets have sent to one.

What the kernel has sent cannot be asked for again: a message always bears its sender's port, and the kernel's is 0.
"""

from __future__ import annotations

import errno
import os
import struct
from functools import partial

from ckpt.errors import KernelError, RestoreError
from ckpt.kernel import netlink_queue, sockets
from ckpt.kernel import uapi_socket as u
from ckpt.records.files import FileRecord
from ckpt.records.sockets import NetlinkMessage, NetlinkPayload
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files.base import FileView
from ckpt.state.files.registry import registry
from ckpt.state.files.sockfamily import refuse_foreign_namespace, socket_family
from ckpt.state.files.sockopts import apply_options, collect_options
from ckpt.state.files.unixactors import Actors
from ckpt.state.rebuild import failed

SUPPORT = Support(
    "sockets",
    "netlink",
    "protocol, port, groups, options; unread messages of other sockets, in the tree or ended (CAP_BPF, CAP_PERFMON)",
)

_GROUPS = 128  # bytes of the membership bitmap that are asked for


class NetlinkKind:
    """A socket of AF_NETLINK."""

    kind = "netlink-socket"

    def recognises(self, view: FileView) -> bool:
        return socket_family(view) == u.AF_NETLINK

    def collect(self, view: FileView, context: CollectContext) -> NetlinkPayload:
        with view.stolen(context) as fd:
            refuse_foreign_namespace(view, fd, context)
            kind = sockets.getsockopt_int(fd, u.SOL_SOCKET, u.SO_TYPE)
            protocol = sockets.getsockopt_int(fd, u.SOL_SOCKET, u.SO_PROTOCOL)
            portid = struct.unpack_from("<I", sockets.getsockname(fd), 4)[0]
            peer = sockets.getpeername(fd) or b"\0" * 12
            peer_portid, peer_groups = struct.unpack_from("<II", peer, 4)
            options = collect_options(view, fd, u.AF_NETLINK, kind, protocol, context)
            queue = _queue(view, fd, protocol, context) if sockets.readable(fd) else ()
            return NetlinkPayload(kind, protocol, portid, _memberships(fd), peer_portid, peer_groups, options, queue)

    def restore(self, file: FileRecord, context: RestoreContext) -> int:
        payload: NetlinkPayload = file.payload
        fd = -1
        try:
            fd = sockets.make_socket(u.AF_NETLINK, payload.type, payload.protocol)
            apply_options(fd, payload.options, final=True, subject="netlink socket")
            if payload.portid:
                sockets.bind(fd, _address(payload.portid, 0))
            for group in payload.groups:
                sockets.setsockopt(fd, u.SOL_NETLINK, u.NETLINK_ADD_MEMBERSHIP, group)
            if payload.queue:
                context.when_opened(partial(_fill, context, payload, fd))
            else:
                _connect(fd, payload)
        except KernelError as error:
            if fd >= 0:
                os.close(fd)
            what = f"netlink socket of protocol {payload.protocol}, port {payload.portid}"
            raise failed(what, error) from error
        return fd


KIND = NetlinkKind()


def _queue(view: FileView, fd: int, protocol: int, context: CollectContext) -> tuple[NetlinkMessage, ...]:
    try:
        waiting = netlink_queue.messages(fd)
        senders = {one.portid: netlink_queue.holder(protocol, one.portid) for one in waiting if one.portid}
    except KernelError as error:
        reason = f"is a netlink socket with unread messages, which cannot be looked at: {error.message}"
        context.refuse(view.pid, view.subject, reason, "dump again when it has read them", passing=True)
        return ()
    ours = {other.stat.st_ino: other.file_id for other in registry(context).views.values()}
    if any(not one.portid or one.group for one in waiting) or {*senders.values()} - {0, *ours}:
        reason = "is a netlink socket with unread messages, which nobody but their sender could send again"
        context.refuse(view.pid, view.subject, reason, "dump again when it has read them", passing=True)
        return ()
    return tuple(
        NetlinkMessage(one.data, one.portid, ours.get(senders[one.portid], 0), one.credentials) for one in waiting
    )


def _connect(fd: int, payload: NetlinkPayload) -> None:
    if payload.peer_portid or payload.peer_groups:
        sockets.connect(fd, _address(payload.peer_portid, payload.peer_groups))


def _fill(context: RestoreContext, payload: NetlinkPayload, receiver: int) -> None:
    """Each message from the socket that sent it, or from one that has its port for the moment.

    Connected only then: a connected socket takes messages from its peer alone.
    """
    actors = Actors(context)
    for message in payload.queue:
        fd = context.opened.get(message.file_id, -1)
        passing = -1
        try:
            if fd < 0:
                fd = passing = sockets.make_socket(u.AF_NETLINK, u.SOCK_RAW, payload.protocol)
                sockets.bind(passing, _address(message.portid, 0))
            pid, uid, gid = message.credentials
            with actors.standing(pid):
                to = _address(payload.portid, 0)
                try:
                    sockets.send(fd, message.data, to=to, credentials=(pid, uid, gid))
                except KernelError as error:
                    if error.errno not in (errno.ESRCH, errno.EPERM):
                        raise
                    sockets.send(fd, message.data, to=to, credentials=(os.getpid(), uid, gid))
        except KernelError as error:
            what = f"a message for the netlink socket of port {payload.portid}"
            raise RestoreError(f"{what} cannot be sent again: {error.message}") from error
        finally:
            if passing >= 0:
                os.close(passing)
    _connect(receiver, payload)


def _address(portid: int, groups: int) -> bytes:
    return struct.pack("<HHII", u.AF_NETLINK, 0, portid, groups)


def _memberships(fd: int) -> tuple[int, ...]:
    bitmap = sockets.getsockopt(fd, u.SOL_NETLINK, u.NETLINK_LIST_MEMBERSHIPS, _GROUPS)
    return tuple(n * 8 + bit + 1 for n, byte in enumerate(bitmap) for bit in range(8) if byte >> bit & 1)
