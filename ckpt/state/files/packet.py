"""Packet sockets: protocol, interface, options, filter, memberships, fanout group, rings.

Packets that wait outside a ring are lost, as they are when there is no room for them, and counted as the kernel
counts those: nobody could send them again without the whole host hearing them.
"""

from __future__ import annotations

import os
import socket
import struct

from ckpt.errors import KernelError, RestoreError
from ckpt.kernel import sock_diag, sockets
from ckpt.kernel import uapi_socket as u
from ckpt.kernel.procfs import MapsLine
from ckpt.records.files import FileRecord
from ckpt.records.sockets import PacketMembership, PacketPayload
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files import packetring
from ckpt.state.files.base import FileView
from ckpt.state.files.sockfamily import refuse_foreign_namespace, socket_family
from ckpt.state.files.sockopts import apply_options, collect_options
from ckpt.state.rebuild import failed

SUPPORT = Support(
    "sockets",
    "packet",
    "protocol, interface, filter, memberships, fanout groups, rings with what is in them, mapped",
    lost="packets that wait outside a ring, which PACKET_STATISTICS counts as dropped",
)

_MCLIST = struct.Struct("<IIHH32s")  # struct packet_diag_mclist
_DROP = struct.pack("<HBBI", 0x06, 0, 0, 0)  # BPF_RET | BPF_K with 0 bytes: no packet passes
_RINGS = "packet:rings"  # inode -> file_id and size of the rings


class PacketKind:
    """A socket of AF_PACKET."""

    kind = "packet-socket"

    def recognises(self, view: FileView) -> bool:
        return socket_family(view) == u.AF_PACKET

    def collect(self, view: FileView, context: CollectContext) -> PacketPayload:
        with view.stolen(context) as fd:
            refuse_foreign_namespace(view, fd, context)
            entry = sock_diag.packet_sockets()[view.stat.st_ino]
            extras = entry.attributes
            rings = packetring.rings_of(fd, extras)
            kind = sockets.getsockopt_int(fd, u.SOL_SOCKET, u.SO_TYPE)
            protocol, name = _bound(fd, kind, entry.num)
            if rings:
                size = sum(ring.size for ring in rings)
                context.shared.setdefault(_RINGS, {})[view.stat.st_ino] = (view.file_id, size)
            return PacketPayload(
                type=kind,
                protocol=protocol,
                name=name,
                options=collect_options(view, fd, u.AF_PACKET, kind, protocol, context),
                memberships=_memberships(extras.get(u.PACKET_DIAG_MCLIST, b"")),
                fanout=_fanout(view, fd, u.PACKET_DIAG_FANOUT in extras, context),
                rings=packetring.collect(view, fd, rings, context),
                dropped=packetring.lost(fd),
            )

    def restore(self, file: FileRecord, context: RestoreContext) -> int:
        payload: PacketPayload = file.payload
        fd = -1
        try:
            # Protocol 0 receives nothing: the filter stands before the first packet.
            fd = sockets.make_socket(u.AF_PACKET, payload.type, _first_protocol(payload))
            apply_options(fd, payload.options, final=False)
            packetring.drop(fd, payload)
            packetring.restore(fd, payload)
            # What brings the others' rings to their places is not for this one.
            sockets.attach_filter(fd, _DROP)
        except KernelError as error:
            if fd >= 0:
                os.close(fd)
            raise _failed(error) from error
        context.when_opened(lambda: _finish(fd, payload))
        return fd


KIND = PacketKind()


def _bound(fd: int, kind: int, num: int) -> tuple[int, bytes]:
    """Protocol in network byte order, and the address that binds the socket; b"" when it is not bound."""
    protocol = socket.htons(num)
    name = sockets.getsockname(fd)
    if kind == u.SOCK_PACKET:  # the interface's name instead of all else
        return protocol, name if len(name) > 2 and name[2] else b""
    interface = struct.unpack_from("<i", name, 4)[0]
    return protocol, name if protocol or interface else b""


def _first_protocol(payload: PacketPayload) -> int:
    """What to make the socket with: a bind sets the protocol later, but not of SOCK_PACKET."""
    return payload.protocol if payload.type == u.SOCK_PACKET else 0


def mapped_ring(context: CollectContext, pid: int, line: MapsLine) -> int | None:
    """The file_id of the packet socket whose rings are mapped there; refuses what is not the whole of them."""
    known: dict[int, tuple[int, int]] = context.shared.get(_RINGS, {})
    file_id, size = known.get(line.ino, (None, 0))
    subject = f"vma {line.start:x}-{line.end:x}"
    if file_id is None:
        context.refuse(pid, subject, f"maps a socket ({line.path}) that is no packet socket which the tree has open")
    elif (line.offset, line.end - line.start) != (0, size):
        context.refuse(pid, subject, f"maps a part of the rings of a packet socket ({line.path})")
    return file_id


def _finish(fd: int, payload: PacketPayload) -> None:
    try:
        if payload.name:
            sockets.bind(fd, payload.name if payload.type == u.SOCK_PACKET else payload.name[:12].ljust(20, b"\0"))
        if not payload.options.filter:
            sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_DETACH_FILTER, 0)
        apply_options(fd, payload.options, final=True, subject="packet socket")
        for one in payload.memberships:
            request = struct.pack("<iHH", one.interface, one.type, len(one.address)) + one.address.ljust(8, b"\0")
            for _ in range(one.count):
                sockets.setsockopt(fd, u.SOL_PACKET, u.PACKET_ADD_MEMBERSHIP, request)
        if payload.fanout >= 0:
            sockets.setsockopt(fd, u.SOL_PACKET, u.PACKET_FANOUT, struct.pack("<I", payload.fanout))
    except KernelError as error:
        raise _failed(error) from error


def _failed(error: KernelError) -> RestoreError:
    return failed("packet socket", error)


def _memberships(table: bytes) -> tuple[PacketMembership, ...]:
    found = []
    for index, count, kind, length, address in _MCLIST.iter_unpack(table):
        found.append(PacketMembership(index, kind, address[:length], count))
    return tuple(found)


def _fanout(view: FileView, fd: int, member: bool, context: CollectContext) -> int:
    """The argument that joins the same group; -1 without one."""
    if not member:
        return -1
    argument = sockets.getsockopt_int(fd, u.SOL_PACKET, u.PACKET_FANOUT) & 0xFFFFFFFF
    if argument >> 16 & 0xFF in (u.PACKET_FANOUT_CBPF, u.PACKET_FANOUT_EBPF):
        reason = "is in a fanout group that a BPF program divides, which cannot be read"
        context.refuse(view.pid, view.subject, reason, "close it before the dump")
    return argument
