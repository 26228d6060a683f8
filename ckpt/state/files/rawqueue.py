"""Packets that wait in raw and ping sockets: read at the dump, and sent to the socket by way of lo again.

The kernel looks at such a packet once more, and so does every socket that would have had a copy. So it is let only
into the socket that it is for, and refused where the kernel would act on it a second time.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from ckpt.errors import KernelError, RestoreError
from ckpt.kernel import raw_queue, sockets
from ckpt.kernel import uapi_socket as u
from ckpt.records.sockets import InetPayload, QueuedMessage
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files.base import FileView

_READ = "dump again when it has read them"
_ANSWERED = {2, 4, 6, 17, 41, 47, 50, 51, 103, 108, 115, 132, 136}  # IPPROTO_* that the kernel itself deals with
_ECHO, _REPLIES = {u.IPPROTO_ICMP: 8, u.IPPROTO_ICMPV6: 128}, {u.IPPROTO_ICMP: (0, 14), u.IPPROTO_ICMPV6: (129,)}
_DROP = struct.pack("<HBBI", 0x06, 0, 0, 0)  # BPF_RET | BPF_K with 0 bytes: no packet passes


def collect(view: FileView, fd: int, kind: int, protocol: int, context: CollectContext) -> tuple[QueuedMessage, ...]:
    """The queue; refuses packets that could not be sent again."""
    family = sockets.getsockopt_int(fd, u.SOL_SOCKET, u.SO_DOMAIN)
    headers = kind == u.SOCK_RAW and family == u.AF_INET
    try:
        packets = raw_queue.packets(fd, family, protocol, headers)
    except KernelError as error:
        reason = f"has received packets that the task has not read, and that cannot be read: {error.message}"
        context.refuse(view.pid, view.subject, reason, _READ)
        return ()
    messages = tuple(QueuedMessage(packet) for packet in packets)
    if protocol in _ANSWERED or any(_acted_upon(packet, protocol) for packet in packets):
        reason = "has received packets that the task has not read, and that the kernel would act on again"
        context.refuse(view.pid, view.subject, reason, _READ)
    return messages


def _acted_upon(packet: bytes, protocol: int) -> bool:
    """Whether an ICMP message is more than an answer, or a request that this host sent to itself."""
    if protocol not in _ECHO:
        return False
    ipv4 = packet[0] >> 4 == 4
    source = packet[12:16] if ipv4 else packet[8:24]
    own = source[:1] == b"\x7f" if ipv4 else source == bytes(15) + b"\1"
    kind = _body(packet)[0]
    return kind not in _REPLIES[protocol] and not (own and kind == _ECHO[protocol])


def _body(packet: bytes) -> bytes:
    return packet[(packet[0] & 15) * 4 :] if packet[0] >> 4 == 4 else packet[40:]


def restore(fd: int, payload: InetPayload, context: RestoreContext, finish: Callable[[], None]) -> None:
    """Before the socket is bound: let nothing in; fill it when all stand; `finish` it when all are filled."""
    sockets.attach_filter(fd, _DROP)

    def fill() -> None:
        try:
            _fill(fd, payload)
        except KernelError as error:
            raise RestoreError(f"the packets that waited in a socket cannot be sent again: {error.message}") from error
        context.when_opened(opened)

    def opened() -> None:
        if not payload.options.filter:
            sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_DETACH_FILTER, 0)
        finish()

    context.when_opened(fill)


def _fill(fd: int, payload: InetPayload) -> None:
    if not payload.queue:
        return
    room = sum(len(message.data) + 4096 for message in payload.queue)
    sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_RCVBUFFORCE, max(room, 1 << 16))
    headers = payload.type == u.SOCK_RAW and payload.family == u.AF_INET
    for message in payload.queue:
        sockets.attach_filter(fd, _only(_body(message.data)[:1], headers))
        raw_queue.inject(message.data)
    sockets.attach_filter(fd, _DROP)
    there = raw_queue.packets(fd, payload.family, payload.protocol, headers)
    if [_body(packet) for packet in there] != [_body(message.data) for message in payload.queue]:
        raise RestoreError("the packets that waited in a raw socket did not arrive in it")


def _only(first: bytes, headers: bool) -> bytes:
    """A filter for packets whose body begins with this byte: an echo request lets in no answer to itself."""
    if not first:
        return struct.pack("<HBBI", 0x06, 0, 0, 0xFFFFFFFF)
    load = struct.pack("<HBBI", 0x50, 0, 0, 0)  # BPF_LD | BPF_B | BPF_IND: the byte at X
    start = struct.pack("<HBBI", 0xB1, 0, 0, 0) if headers else struct.pack("<HBBI", 0x01, 0, 0, 0)  # X: its offset
    test = struct.pack("<HBBI", 0x15, 0, 1, first[0])  # BPF_JMP | BPF_JEQ | BPF_K
    return start + load + test + struct.pack("<HBBI", 0x06, 0, 0, 0xFFFFFFFF) + _DROP
