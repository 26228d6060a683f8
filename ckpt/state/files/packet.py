"""Packet sockets with an empty queue: protocol, interface, options and filter."""

from __future__ import annotations

import os
import struct

from ckpt.errors import KernelError, RestoreError
from ckpt.kernel import sock_diag, sockets
from ckpt.kernel import uapi_socket as u
from ckpt.records.files import FileRecord
from ckpt.records.sockets import PacketPayload
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files.base import FileView
from ckpt.state.files.sockfamily import refuse_foreign_namespace, socket_family
from ckpt.state.files.sockopts import apply_options, collect_options

SUPPORT = Support("sockets", "packet", "protocol, interface, filter")


class PacketKind:
    """A socket of AF_PACKET."""

    kind = "packet-socket"

    def recognises(self, view: FileView) -> bool:
        return socket_family(view) == u.AF_PACKET

    def collect(self, view: FileView, context: CollectContext) -> PacketPayload:
        with view.stolen(context) as fd:
            refuse_foreign_namespace(view, fd, context)
            extras = sock_diag.packet_extras().get(view.stat.st_ino, frozenset())
            if extras & {u.PACKET_DIAG_RX_RING, u.PACKET_DIAG_TX_RING}:
                context.refuse(view.pid, view.subject, "is a packet socket with a ring", "close it before the dump")
            if u.PACKET_DIAG_MCLIST in extras:
                context.refuse(view.pid, view.subject, "is a packet socket with memberships (promiscuous mode)")
            if _fanout(fd):
                context.refuse(view.pid, view.subject, "is a packet socket in a fanout group")
            if sockets.readable(fd):
                context.refuse(view.pid, view.subject, "is a packet socket with packets not read yet")
            kind = sockets.getsockopt_int(fd, u.SOL_SOCKET, u.SO_TYPE)
            name = sockets.getsockname(fd)
            protocol, interface = struct.unpack_from("<Hi", name, 2)
            options = collect_options(view, fd, u.AF_PACKET, kind, protocol, context)
            return PacketPayload(kind, protocol, name if protocol or interface else b"", options)

    def restore(self, file: FileRecord, context: RestoreContext) -> int:
        payload: PacketPayload = file.payload
        fd = -1
        try:
            # Protocol 0 receives nothing: the filter stands before the first packet.
            fd = sockets.make_socket(u.AF_PACKET, payload.type, 0)
            apply_options(fd, payload.options, final=True, subject="packet socket")
            if payload.name:
                sockets.bind(fd, payload.name[:12].ljust(20, b"\0"))
        except KernelError as error:
            if fd >= 0:
                os.close(fd)
            raise RestoreError(f"packet socket cannot be restored: {error.message}") from error
        return fd


KIND = PacketKind()


def _fanout(fd: int) -> bool:
    try:
        return sockets.getsockopt_int(fd, u.SOL_PACKET, u.PACKET_FANOUT) != 0
    except KernelError:
        return False
