"""Netlink sockets: protocol, port, groups and options. What is queued in one cannot be asked for again."""

from __future__ import annotations

import os
import struct

from ckpt.errors import KernelError, RestoreError
from ckpt.kernel import sockets
from ckpt.kernel import uapi_socket as u
from ckpt.records.files import FileRecord
from ckpt.records.sockets import NetlinkPayload
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files.base import FileView
from ckpt.state.files.sockfamily import refuse_foreign_namespace, socket_family
from ckpt.state.files.sockopts import apply_options, collect_options

SUPPORT = Support("sockets", "netlink", "protocol, port, groups, options")

_GROUPS = 128  # bytes of the membership bitmap that are asked for


class NetlinkKind:
    """A socket of AF_NETLINK."""

    kind = "netlink-socket"

    def recognises(self, view: FileView) -> bool:
        return socket_family(view) == u.AF_NETLINK

    def collect(self, view: FileView, context: CollectContext) -> NetlinkPayload:
        with view.stolen(context) as fd:
            refuse_foreign_namespace(view, fd, context)
            if sockets.readable(fd):
                reason = "is a netlink socket with unread messages, which nobody but their sender could send again"
                context.refuse(view.pid, view.subject, reason, "dump again when it has read them", passing=True)
            kind = sockets.getsockopt_int(fd, u.SOL_SOCKET, u.SO_TYPE)
            protocol = sockets.getsockopt_int(fd, u.SOL_SOCKET, u.SO_PROTOCOL)
            portid = struct.unpack_from("<I", sockets.getsockname(fd), 4)[0]
            peer = sockets.getpeername(fd) or b"\0" * 12
            peer_portid, peer_groups = struct.unpack_from("<II", peer, 4)
            options = collect_options(view, fd, u.AF_NETLINK, kind, protocol, context)
            return NetlinkPayload(kind, protocol, portid, _memberships(fd), peer_portid, peer_groups, options)

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
            if payload.peer_portid or payload.peer_groups:
                sockets.connect(fd, _address(payload.peer_portid, payload.peer_groups))
        except KernelError as error:
            if fd >= 0:
                os.close(fd)
            what = f"netlink socket of protocol {payload.protocol}, port {payload.portid}"
            raise RestoreError(f"{what} cannot be restored: {error.message}") from error
        return fd


KIND = NetlinkKind()


def _address(portid: int, groups: int) -> bytes:
    return struct.pack("<HHII", u.AF_NETLINK, 0, portid, groups)


def _memberships(fd: int) -> tuple[int, ...]:
    bitmap = sockets.getsockopt(fd, u.SOL_NETLINK, u.NETLINK_LIST_MEMBERSHIPS, _GROUPS)
    return tuple(n * 8 + bit + 1 for n, byte in enumerate(bitmap) for bit in range(8) if byte >> bit & 1)
