"""Rings of packet sockets (Documentation/networking/packet_mmap.rst): reading one, and making one like it.

The kernel keeps its own place in a ring, which only its memory shows. A new ring begins at the first frame; frames of
an experimental protocol on the loopback interface bring it to where the old one was.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ckpt.errors import KernelError, Unsupported
from ckpt.kernel import sockets
from ckpt.kernel import uapi_socket as u
from ckpt.kernel.btf import kernel_types
from ckpt.kernel.kernel_memory import KernelMemory

_PATIENCE = 10.0  # seconds for a frame to go through the loopback interface, or a block to be retired
_STATUS = 8  # offset of block_status in struct tpacket_block_desc
_NUM_PKTS = 12
_FRAME_DATA = 32  # TPACKET_ALIGN(sizeof(struct tpacket_hdr)), the same for tpacket2_hdr
_FRAME_DATA_V3 = 48


@dataclass(frozen=True, slots=True)
class Ring:
    """How one ring was asked for: struct packet_diag_ring."""

    option: int  # PACKET_RX_RING, PACKET_TX_RING
    version: int  # TPACKET_V1 …
    block_size: int
    block_nr: int
    frame_size: int
    frame_nr: int
    retire_tmo: int  # ms
    sizeof_priv: int
    features: int

    @property
    def size(self) -> int:
        """Bytes of the ring."""
        return self.block_size * self.block_nr

    @property
    def by_blocks(self) -> bool:
        """Whether whole blocks are handed over, not frames."""
        return self.version == u.TPACKET_V3 and self.option == u.PACKET_RX_RING

    @property
    def request(self) -> bytes:
        """struct tpacket_req, or tpacket_req3."""
        four = struct.pack("<4I", self.block_size, self.block_nr, self.frame_size, self.frame_nr)
        if self.version != u.TPACKET_V3:
            return four
        return four + struct.pack("<3I", self.retire_tmo, self.sizeof_priv, self.features)

    def place(self, index: int) -> int:
        """Offset of a frame, or of a block."""
        if self.by_blocks:
            return index * self.block_size
        in_block = self.block_size // self.frame_size
        return index // in_block * self.block_size + index % in_block * self.frame_size


def from_diag(option: int, version: int, value: bytes) -> Ring:
    """A ring from the attribute PACKET_DIAG_RX_RING or PACKET_DIAG_TX_RING."""
    return Ring(option, version, *struct.unpack_from("<7I", value))


def from_request(option: int, version: int, request: bytes) -> Ring:
    """A ring from what set it up."""
    return Ring(option, version, *struct.unpack("<7I", request.ljust(28, b"\0")))


@contextmanager
def mapped(fd: int, rings: list[Ring]) -> Iterator[memoryview]:
    """All rings of a socket, in memory, one behind the other."""
    with mmap.mmap(fd, sum(ring.size for ring in rings), mmap.MAP_SHARED) as area:
        with memoryview(area) as view:
            yield view


def heads(fd: int, rings: list[Ring]) -> list[int]:
    """Where the kernel is in each ring. Unsupported where its memory cannot be read."""
    types = kernel_types()
    found = []
    with KernelMemory() as memory:
        sk = memory.u64(memory.private(fd) + types.offset("socket", "sk"))
        for ring in rings:
            member = "rx_ring" if ring.option == u.PACKET_RX_RING else "tx_ring"
            at = sk + types.offset("packet_sock", member)
            if ring.by_blocks:
                core = at + types.offset("packet_ring_buffer", "prb_bdqc")
                place = core + types.offset("tpacket_kbdq_core", "kactive_blk_num")
                found.append(int.from_bytes(memory.read(place, 2), "little"))
            else:
                found.append(memory.u32(at + types.offset("packet_ring_buffer", "head")))
    return found


def read(fd: int, rings: list[Ring]) -> tuple[list[int], bytes]:
    """Heads and bytes of all rings at one moment; the kernel may go on receiving while they are read."""
    for _ in range(100):
        before = heads(fd, rings)
        with mapped(fd, rings) as area:
            content = bytes(area)
        if heads(fd, rings) == before:
            return before, content
    raise KernelError("a packet ring is filled faster than it can be read")


def retire(ring: Ring, head: int, content: bytearray) -> int:
    """TPACKET_V3: hand over the block that the kernel is filling, as its timer would have done; gives the new head.

    Unsupported when the block to be filled next is still the task's.
    """
    if struct.unpack_from("<I", content, ring.place(head) + _NUM_PKTS)[0] and not _status(content, ring, head):
        struct.pack_into("<I", content, ring.place(head) + _STATUS, u.TP_STATUS_USER)
        head = (head + 1) % ring.block_nr
    if _status(content, ring, head):
        raise Unsupported("every block of the ring is full")
    return head


def _status(content: bytearray | memoryview, ring: Ring, index: int) -> int:
    at = ring.place(index) + (_STATUS if ring.by_blocks else _status_offset(ring))
    return int(struct.unpack_from("<I", content, at)[0])


def _status_offset(ring: Ring) -> int:
    """tp_status is first, but in struct tpacket3_hdr."""
    return 20 if ring.version == u.TPACKET_V3 else 0


def unsent(ring: Ring, content: bytearray) -> None:
    """Frames that were on their way when the task was dumped have been sent."""
    for index in range(ring.frame_nr):
        at = ring.place(index) + _status_offset(ring)
        if struct.unpack_from("<I", content, at)[0] == u.TP_STATUS_SENDING:
            struct.pack_into("<I", content, at, u.TP_STATUS_KERNEL)


def lost(fd: int) -> int:
    """Packets in the receive queue, and those dropped that PACKET_STATISTICS would tell of (and forget).

    Unsupported where the kernel's memory cannot be read.
    """
    types = kernel_types()
    with KernelMemory() as memory:
        sk = memory.u64(memory.private(fd) + types.offset("socket", "sk"))
        waiting = memory.u32(sk + types.offset("sock", "sk_receive_queue") + types.offset("sk_buff_head", "qlen"))
        return waiting + memory.u32(sk + types.offset("packet_sock", "tp_drops"))


@contextmanager
def experimental(fd: int) -> Iterator[Callable[[], None]]:
    """Bind the socket to an experimental protocol on lo; gives what sends it a frame with one byte.

    An empty one would not reach a SOCK_DGRAM socket: run_filter() in net/packet/af_packet.c takes its length for a no.
    """
    address = _experimental_address()
    sockets.bind(fd, address)
    frame = bytes(12) + struct.pack(">H", u.ETH_P_802_EX1) + b"\0"
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:

        def send() -> None:
            sockets.send(sender.fileno(), frame, to=address)

        yield send


def _experimental_address() -> bytes:
    protocol = socket.htons(u.ETH_P_802_EX1)
    return struct.pack("<HHiHBB8s", u.AF_PACKET, protocol, socket.if_nametoindex("lo"), 0, 0, 6, b"")


def advance(fd: int, ring: Ring, area: memoryview, head: int) -> None:
    """Bring the kernel's place in a new ring, whose memory is `area`, to `head`. The socket is bound to lo after it."""
    if not head:
        return
    if ring.option == u.PACKET_TX_RING:
        address = _experimental_address()
        sockets.bind(fd, address)
        _send_empty(fd, ring, area, head, address)
        return
    with experimental(fd) as send:
        for index in range(head):
            send()
            _wait(area, ring, index, u.TP_STATUS_USER)
    for index in range(head):
        at = ring.place(index) + (_STATUS if ring.by_blocks else _status_offset(ring))
        struct.pack_into("<I", area, at, u.TP_STATUS_KERNEL)


def _send_empty(fd: int, ring: Ring, area: memoryview, head: int, address: bytes) -> None:
    """Have the kernel send `head` frames that hold a header and nothing else."""
    cooked = sockets.getsockopt_int(fd, u.SOL_SOCKET, u.SO_TYPE) != socket.SOCK_RAW
    frame = b"\0" if cooked else bytes(12) + struct.pack(">H", u.ETH_P_802_EX1)
    for index in range(head):
        at = ring.place(index)
        # tp_len is the second word of tpacket_hdr (an unsigned long before it) and tpacket2_hdr, the third before
        # tp_status in tpacket3_hdr.
        length = {u.TPACKET_V1: 8, u.TPACKET_V2: 4, u.TPACKET_V3: 16}[ring.version]
        data = _FRAME_DATA_V3 if ring.version == u.TPACKET_V3 else _FRAME_DATA
        area[at + data : at + data + len(frame)] = frame
        struct.pack_into("<I", area, at + length, len(frame))
        struct.pack_into("<I", area, at + _status_offset(ring), u.TP_STATUS_USER)
        sockets.send(fd, b"", to=address)
        _wait(area, ring, index, u.TP_STATUS_KERNEL)


def _wait(area: memoryview, ring: Ring, index: int, wanted: int) -> None:
    end = time.monotonic() + _PATIENCE
    while bool(_status(area, ring, index)) != bool(wanted):
        if time.monotonic() > end:
            raise KernelError("a packet ring could not be brought to its old place by way of lo")
        os.sched_yield()
