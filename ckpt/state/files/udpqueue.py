"""Datagrams that wait in UDP and UDP-Lite sockets: peeked at the dump, sent to the socket as raw packets again."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext

from ckpt.errors import KernelError, NotPermitted, RestoreError
from ckpt.kernel import datagrams, reuseport, sockets
from ckpt.kernel import uapi_socket as u
from ckpt.kernel.sockets import Message
from ckpt.records.sockets import InetPayload, QueuedMessage
from ckpt.state.files.inetnames import MAPPED, address_of, endpoint, host_of, show
from ckpt.state.files.queues import peek_messages

# What tells where a datagram went, and how.
_ASK4 = ((u.SOL_IP, u.IP_PKTINFO), (u.SOL_IP, u.IP_RECVTTL), (u.SOL_IP, u.IP_RECVTOS))
_ASK6 = ((u.SOL_IPV6, u.IPV6_RECVPKTINFO), (u.SOL_IPV6, u.IPV6_RECVHOPLIMIT), (u.SOL_IPV6, u.IPV6_RECVTCLASS))
Senders = Mapping[tuple[int, bytes, int], int]  # (protocol, host, port) -> descriptor

_NOBODY = struct.pack("<H14x", 0)  # AF_UNSPEC: connecting to it takes the peer away


def collect(fd: int, family: int) -> tuple[QueuedMessage, ...]:
    """The queue of a UDP or UDP-Lite socket."""
    if not sockets.readable(fd):
        return ()
    with _asking(fd, _ASK4 if family == u.AF_INET else _ASK6 + _ASK4):
        return tuple(_message(message) for message in peek_messages(fd))


@contextmanager
def _asking(fd: int, options: tuple[tuple[int, int], ...]) -> Iterator[None]:
    before = [(level, name) for level, name in options if not sockets.getsockopt_int(fd, level, name)]
    try:
        for level, name in before:
            sockets.setsockopt(fd, level, name, 1)
        yield
    finally:
        for level, name in before:
            sockets.setsockopt(fd, level, name, 0)


def _message(message: Message) -> QueuedMessage:
    to, hops, tos = b"", 64, 0
    for level, kind, body in message.control:
        if (level, kind) == (u.SOL_IP, u.IP_PKTINFO):
            to = body[8:12]  # ipi_addr: the destination in the header
        elif (level, kind) == (u.SOL_IPV6, u.IPV6_PKTINFO) and not to:
            to = body[:16]
            to = to[12:] if to.startswith(MAPPED) else to
        elif (level, kind) in ((u.SOL_IP, u.IP_TTL), (u.SOL_IPV6, u.IPV6_HOPLIMIT)):
            hops = body[0]
        elif (level, kind) in ((u.SOL_IP, u.IP_TOS), (u.SOL_IPV6, u.IPV6_TCLASS)):
            tos = body[0]
    if len(to) == 16 and _is_group(to):
        to = b""  # the loopback interface has no route to it
    return QueuedMessage(message.data, message.name, to=to, hops=hops, tos=tos)


def _is_group(host: bytes) -> bool:
    return host[0] >> 4 == 14 if len(host) == 4 else host[0] == 0xFF


def fills_unbound(payload: InetPayload) -> bool:
    """Whether what waits is put in before the socket is bound.

    Either it is bound to a multicast group, or datagrams in it were sent to one; or it is one of IPv6, which `refill`
    must not connect: the kernel keeps the peer's address when it is taken away, and lets nobody else in ever after.
    """
    hosts = [host_of(payload.name), *(message.to for message in payload.queue)]
    return bool(payload.queue) and (payload.family == u.AF_INET6 or any(map(_is_group, filter(None, hosts))))


def fill_unbound(fd: int, payload: InetPayload, subject: str, senders: Senders) -> None:
    """Put datagrams into a socket that is not bound yet, for others may share its port, or be in its groups.

    It has a port that nobody else has, and none again afterwards.
    """
    _make_room(fd, payload)
    any_host = bytes(4 if payload.family == u.AF_INET else 16)
    reuse = {name: sockets.getsockopt_int(fd, u.SOL_SOCKET, name) for name in (u.SO_REUSEADDR, u.SO_REUSEPORT)}
    for name in reuse:
        sockets.setsockopt(fd, u.SOL_SOCKET, name, 0)  # or the kernel might give it a port that another has
    device = sockets.getsockopt(fd, u.SOL_SOCKET, u.SO_BINDTODEVICE, 16)
    if device and datagrams.allowed():
        sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_BINDTODEVICE, b"\0")
    sockets.bind(fd, address_of(payload.family, b"\0\0" + any_host.rjust(16, b"\0")))
    here, lo = sockets.getsockname(fd), socket.if_nametoindex("lo")
    groups = {message.to for message in payload.queue if message.to and _is_group(message.to)}
    joins = [
        struct.pack("<Q", lo) + address_of(u.AF_INET, b"\0\0" + MAPPED + group).ljust(u.SOCKADDR_STORAGE_SIZE, b"\0")
        for group in groups
    ]
    for join in joins:
        sockets.setsockopt(fd, u.SOL_IP, u.MCAST_JOIN_GROUP, join)
    for message in payload.queue:
        _deliver(message, here, payload, senders)
    for join in joins:
        sockets.setsockopt(fd, u.SOL_IP, u.MCAST_LEAVE_GROUP, join)
    _check(fd, payload, subject)
    sockets.connect(fd, _NOBODY)
    for name, value in reuse.items():
        sockets.setsockopt(fd, u.SOL_SOCKET, name, value)
    if device:
        sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_BINDTODEVICE, device)


def refill(fd: int, payload: InetPayload, subject: str, senders: Senders) -> None:
    """Put datagrams back into the queue; they keep their source because they are sent as raw packets.

    `senders`: sockets that stand already, by host and port.
    """
    if not payload.queue:
        return
    _make_room(fd, payload)
    # A socket that shares its port by SO_REUSEPORT would leave the others when it is connected.
    shares = bool(sockets.getsockopt_int(fd, u.SOL_SOCKET, u.SO_REUSEPORT))
    with _chosen(fd) if shares else nullcontext():
        for message in payload.queue:
            with nullcontext() if shares else _preferred(fd, message):
                _deliver(message, payload.name, payload, senders)
    _check(fd, payload, subject)


def _make_room(fd: int, payload: InetPayload) -> None:
    room = sum(len(message.data) + 4096 for message in payload.queue)
    sockets.make_room(fd, u.SO_RCVBUFFORCE, u.SO_RCVBUF, max(room, 1 << 16))


def _deliver(message: QueuedMessage, destination: bytes, payload: InetPayload, senders: Senders) -> None:
    """As a raw packet; without CAP_NET_RAW from a socket with the sender's name, which this host must have."""
    try:
        datagrams.inject(
            message.name, destination, message.data, payload.protocol, message.to, message.hops, message.tos
        )
    except NotPermitted:
        try:
            datagrams.send_as(
                message.name, destination, message.data, payload.protocol, message.to, message.hops, message.tos,
                senders,
            )  # fmt: skip
        except KernelError as error:
            raise RestoreError(
                f"a datagram from {show(message.name)} waits in a socket, which this user cannot put back: "
                f"{error.message}",
                hint="restore as root, or with CAP_NET_ADMIN and CAP_NET_RAW",
            ) from None


def _check(fd: int, payload: InetPayload, subject: str) -> None:
    # Another socket on the same port may have been preferred all the same: better to stop than to lose the queue.
    # (An empty datagram is not looked at: the look marks it as seen, and a later dump would pass over it.)
    whole = all(message.data for message in payload.queue)
    if whole and [(m.data, m.name) for m in peek_messages(fd)] != [(m.data, m.name) for m in payload.queue]:
        hint = None if datagrams.allowed() else "restore as root, or with CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF"
        raise RestoreError(f"the unread datagrams of {subject} did not arrive in it", hint=hint)


@contextmanager
def _preferred(fd: int, message: QueuedMessage) -> Iterator[None]:
    """While it is connected to the sender, no other socket on its port gets what that one sends.

    Connected, a socket bound to any address has one; where that is not the datagram's, being bound to the loopback
    device gives it some preference, too.
    """
    if _connect(fd, message):
        try:
            yield
        finally:
            sockets.connect(fd, _NOBODY)
        return
    device = sockets.getsockopt(fd, u.SOL_SOCKET, u.SO_BINDTODEVICE, 16)
    if device or not datagrams.allowed():  # then what is bound to a device stays so
        yield
        return
    sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_BINDTODEVICE, b"lo\0")
    try:
        yield
    finally:
        sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_BINDTODEVICE, b"\0")


@contextmanager
def _chosen(fd: int) -> Iterator[None]:
    """While a program chooses this one among the sockets of its port; their own comes back with the options."""
    try:
        number = reuseport.place(fd)
    except KernelError:
        number = None
    if number is None:
        yield
        return
    sockets.attach_reuseport(fd, struct.pack("<HBBI", 0x06, 0, 0, number))  # BPF_RET | BPF_K
    try:
        yield
    finally:
        sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_DETACH_REUSEPORT_BPF, 0)


def _connect(fd: int, message: QueuedMessage) -> bool:
    """Connect to the sender of the datagram; whether the socket can receive it then."""
    try:
        sockets.connect(fd, message.name)
    except KernelError:
        return False  # it cannot be reached from here
    if not message.to or endpoint(sockets.getsockname(fd))[2:].endswith(message.to):
        return True
    sockets.connect(fd, _NOBODY)
    return False
