"""The rings of a packet socket and what is in them."""

from __future__ import annotations

import time
from collections.abc import Iterator

from ckpt.errors import KernelError, Unsupported
from ckpt.kernel import packet_ring, sockets
from ckpt.kernel import uapi_socket as u
from ckpt.records.sockets import PacketPayload, PacketRing, RingPart
from ckpt.state.context import CollectContext
from ckpt.state.files.base import FileView

_PAGE = 4096
_MOST = 12 << 20  # bytes that are not zero, for an image record to hold them
_PATIENCE = 10.0  # seconds to fill a queue with frames through the loopback interface
_TOLD = 1000  # more drops than these take too long to make


def rings_of(fd: int, extras: dict[int, bytes]) -> list[packet_ring.Ring]:
    """The rings of a socket, in the order in which they lie in memory; `extras`: PACKET_DIAG_* attributes."""
    if not extras.keys() & {u.PACKET_DIAG_RX_RING, u.PACKET_DIAG_TX_RING}:
        return []
    version = sockets.getsockopt_int(fd, u.SOL_PACKET, u.PACKET_VERSION)
    kinds = ((u.PACKET_DIAG_RX_RING, u.PACKET_RX_RING), (u.PACKET_DIAG_TX_RING, u.PACKET_TX_RING))
    return [packet_ring.from_diag(option, version, extras[kind]) for kind, option in kinds if kind in extras]


def collect(view: FileView, fd: int, rings: list[packet_ring.Ring], context: CollectContext) -> tuple[PacketRing, ...]:
    """Everything in the rings; refuses what cannot be brought back."""
    if not rings:
        return ()
    found, offset = [], 0
    try:
        heads, content = packet_ring.read(fd, rings)
        for ring, head in zip(rings, heads, strict=True):
            mine = bytearray(content[offset : offset + ring.size])
            offset += ring.size
            if ring.by_blocks:
                head = packet_ring.retire(ring, head, mine)
                at = ring.place(head)  # the kernel writes the header of the block that it fills
                mine[at : at + ring.block_size] = bytes(ring.block_size)
            elif ring.option == u.PACKET_TX_RING:
                packet_ring.unsent(ring, mine)
            found.append(PacketRing(ring.option, ring.request, head, tuple(_parts(mine))))
    except KernelError as error:
        reason = f"is a packet socket whose ring cannot be read: {error.message}"
        context.refuse(view.pid, view.subject, reason, "run ckpt as root, or close it before the dump")
    if sum(len(part.data) for ring in found for part in ring.parts) > _MOST:
        context.refuse(view.pid, view.subject, f"has more than {_MOST >> 20} MiB of packets in its rings")
        return ()
    return tuple(found)


def _parts(content: bytearray) -> Iterator[RingPart]:
    """The pages that are not all zeros, joined where they follow each other."""
    start = -1
    for at in range(0, len(content), _PAGE):
        if any(content[at : at + _PAGE]):
            start = at if start < 0 else start
        elif start >= 0:
            yield RingPart(start, bytes(content[start:at]))
            start = -1
    if start >= 0:
        yield RingPart(start, bytes(content[start:]))


def restore(fd: int, payload: PacketPayload) -> None:
    """Make the rings of a fresh socket, bring the kernel to its place in each, and fill them."""
    if not payload.rings:
        return
    version = sockets.getsockopt_int(fd, u.SOL_PACKET, u.PACKET_VERSION)
    rings = [packet_ring.from_request(one.option, version, one.request) for one in payload.rings]
    for ring in rings:
        sockets.setsockopt(fd, u.SOL_PACKET, ring.option, ring.request)
    with packet_ring.mapped(fd, rings) as area:
        offset = 0
        for ring, one in zip(rings, payload.rings, strict=True):
            with area[offset : offset + ring.size] as mine:
                packet_ring.advance(fd, ring, mine, one.head)
                _fill(ring, one, mine)
            offset += ring.size


def _fill(ring: packet_ring.Ring, one: PacketRing, area: memoryview) -> None:
    """Put the old bytes in; of blocks that the kernel fills, all but the one that it is at."""
    kernels = ring.place(one.head) if ring.by_blocks else -1
    content = bytearray(ring.size)
    for part in one.parts:
        content[part.offset : part.offset + len(part.data)] = part.data
    if kernels < 0:
        area[:] = content
        return
    behind = kernels + ring.block_size
    area[:kernels] = content[:kernels]
    area[behind:] = content[behind:]


def lost(fd: int) -> int:
    """How many packets are lost or were; 1 when some wait outside a ring and the kernel's memory is closed."""
    try:
        return min(packet_ring.lost(fd), _TOLD)
    except Unsupported:
        return int(_filled(fd) > 0)


def _filled(fd: int) -> int:
    """Bytes of memory that the receive queue takes: SK_MEMINFO_RMEM_ALLOC."""
    return int.from_bytes(sockets.getsockopt(fd, u.SOL_SOCKET, u.SO_MEMINFO, 4), "little")


def drop(fd: int, payload: PacketPayload) -> None:
    """Have the kernel count as many dropped packets as were lost: frames for which a small queue has no room."""
    if not payload.dropped or payload.type == u.SOCK_PACKET:
        return
    room = sockets.getsockopt_int(fd, u.SOL_SOCKET, u.SO_RCVBUF)
    sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_RCVBUF, 0)  # the kernel takes the least that it allows
    least = sockets.getsockopt_int(fd, u.SOL_SOCKET, u.SO_RCVBUF)
    with packet_ring.experimental(fd) as send:
        end = time.monotonic() + _PATIENCE
        while _filled(fd) < least:
            if time.monotonic() > end:
                raise KernelError("the drops of a packet socket could not be made again by way of lo")
            send()
        for _ in range(payload.dropped):
            send()
    while sockets.discard(fd):
        pass
    sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_RCVBUFFORCE, room // 2)
