"""The payloads of sockets. Addresses are struct sockaddr as the kernel gives them, except where said."""

from __future__ import annotations

from dataclasses import dataclass

from ckpt.records.base import record


@dataclass(frozen=True, slots=True)
class SocketOption:
    """One getsockopt value; ints are 4 bytes, little-endian."""

    level: int
    name: int
    value: bytes


@dataclass(frozen=True, slots=True)
class SocketOptions:
    """Everything that setsockopt can put back."""

    values: tuple[SocketOption, ...] = ()
    filter: bytes = b""  # struct sock_filter array of SO_ATTACH_FILTER
    memberships: tuple[Membership, ...] = ()
    locked: bool = False  # SO_LOCK_FILTER
    reuseport: bytes = b""  # struct sock_filter array of SO_ATTACH_REUSEPORT_CBPF


@dataclass(frozen=True, slots=True)
class Membership:
    """One multicast group of a socket (MCAST_MSFILTER)."""

    interface: int
    group: bytes  # sockaddr_storage, 128 bytes
    mode: int  # MCAST_INCLUDE, MCAST_EXCLUDE
    sources: tuple[bytes, ...]  # sockaddr_storage each


@dataclass(frozen=True, slots=True)
class SocketPlace:
    """The socket file of a bound Unix socket."""

    directory: str  # absolute; what a relative name is relative to, the root of an absolute one
    path: str  # where the file is, or was when it was deleted
    present: bool  # it is there
    mode: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """Data that waits to be received, with its boundaries and what came with it."""

    data: bytes
    name: bytes = b""  # the sender's sockaddr
    files: tuple[int, ...] = ()  # file_ids of the descriptors in flight
    credentials: tuple[int, ...] = ()  # pid, uid, gid; empty when the receiver does not ask for them
    urgent: bool = False  # sent with MSG_OOB
    to: bytes = b""  # of a datagram: the host that it was sent to, 4 or 16 bytes
    hops: int = 64  # TTL or hop limit
    tos: int = 0  # type of service or traffic class


@dataclass(frozen=True, slots=True)
class Identity:
    """A task as SO_PEERCRED and SO_PEERGROUPS show it."""

    pid: int
    uid: int
    gid: int
    groups: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class UnixWaiting:
    """A connection that a Unix listener has not accepted yet."""

    client: int  # inode; 0: it is closed already
    sent: tuple[QueuedMessage, ...]


@record("unix-socket")
class UnixPayload:
    """One Unix socket."""

    ino: int
    type: int  # SOCK_*
    listening: bool
    backlog: int
    name: bytes  # sun_path as bound, without the family; b"" when unbound
    place: SocketPlace | None
    connected: bool
    peer_ino: int  # 0: the peer is closed, or waits to be accepted
    peer_name: bytes  # sun_path
    pending_on: int  # inode of the listener that has not accepted this connection yet; 0 for none
    shutdown: int  # RCV_SHUTDOWN | SEND_SHUTDOWN
    queue: tuple[QueuedMessage, ...]
    options: SocketOptions
    made_by: Identity | None = None  # SO_PEERCRED: who made the pair, connected, or listens
    connector: Identity | None = None  # who made a connection that waits to be accepted
    reset: bool = False  # the peer ended with unread data, and the task has not heard of it
    waiting: tuple[UnixWaiting, ...] = ()  # of a listener, the next to be accepted first


@dataclass(frozen=True, slots=True)
class TcpConnection:
    """What TCP_REPAIR gives of an established connection."""

    receive_seq: int  # of the first byte after the receive queue
    send_seq: int  # of the first byte after the send queue
    receive_queue: bytes
    send_queue: bytes
    unsent: int  # how many bytes at the end of send_queue were never sent
    mss_clamp: int
    send_wscale: int
    receive_wscale: int
    wscale_ok: bool
    sack_ok: bool
    timestamps: bool
    timestamp: int  # TCP_TIMESTAMP
    window: bytes  # struct tcp_repair_window
    holder: str  # token of the process that may keep the connection alive
    urgent: int = -1  # where in receive_queue the urgent byte is that was not read


@dataclass(frozen=True, slots=True)
class SocketError:
    """An ICMP message in the error queue of a UDP socket."""

    origin: int  # SO_EE_ORIGIN_*
    type: int
    code: int
    offender: bytes  # who sent it, 4 or 16 bytes
    host: bytes  # where the datagram went that it is about
    port: int
    data: bytes  # as much of that as it quotes


@record("inet-socket")
class InetPayload:
    """One IPv4 or IPv6 socket: TCP, UDP, UDP-Lite, ping or raw."""

    ino: int
    family: int
    type: int
    protocol: int
    state: int  # TCP_ESTABLISHED, TCP_LISTEN, TCP_CLOSE, …
    name: bytes
    bound: bool
    peer: bytes  # b"" when not connected
    backlog: int
    shutdown: int
    queue: tuple[QueuedMessage, ...]
    options: SocketOptions
    connection: TcpConnection | None = None
    ended: bool = False  # TCP: was connected, and is closed
    error: int = 0  # errno that the task will be told next
    errors: tuple[SocketError, ...] = ()
    begun: QueuedMessage | None = None  # UDP: a datagram not sent yet; `name` is where to, b"" to the peer


@record("tcp-waiting")
class TcpWaiting:
    """A connection that its listener has not accepted yet; one record each, in the order of the accepts."""

    listener: int  # inode
    client: int  # inode of the client's socket; 0: the client is closed already
    family: int  # of the addresses
    local: bytes  # of the listener's side
    remote: bytes
    data: bytes  # what the client has sent
    ended: bool  # and its FIN


@dataclass(frozen=True, slots=True)
class NetlinkMessage:
    """A message of another socket's that waits in a netlink socket."""

    data: bytes
    portid: int  # of the sender
    file_id: int  # the sender's socket, 0 when it is gone
    credentials: tuple[int, ...]  # pid, uid, gid


@record("netlink-socket")
class NetlinkPayload:
    """One netlink socket; `queue` holds what other sockets have sent to it."""

    type: int
    protocol: int
    portid: int  # 0: not bound yet
    groups: tuple[int, ...]
    peer_portid: int
    peer_groups: int
    options: SocketOptions
    queue: tuple[NetlinkMessage, ...] = ()


@dataclass(frozen=True, slots=True)
class PacketMembership:
    """PACKET_ADD_MEMBERSHIP."""

    interface: int
    type: int  # PACKET_MR_*
    address: bytes
    count: int  # how often it was added


@dataclass(frozen=True, slots=True)
class PacketRing:
    """PACKET_RX_RING or PACKET_TX_RING."""

    option: int
    request: bytes  # struct tpacket_req, or tpacket_req3 when received into by TPACKET_V3
    head: int  # the frame (of TPACKET_V3: the block) that the kernel comes to next
    parts: tuple[RingPart, ...]


@dataclass(frozen=True, slots=True)
class RingPart:
    """Some bytes of a ring; what no part covers is zero, or left to the kernel."""

    offset: int
    data: bytes


@record("packet-socket")
class PacketPayload:
    """One packet socket."""

    type: int
    protocol: int  # in network byte order, as socket(2) takes it
    name: bytes  # struct sockaddr_ll, for SOCK_PACKET struct sockaddr with the interface's name; b"" when not bound
    options: SocketOptions
    memberships: tuple[PacketMembership, ...] = ()
    fanout: int = -1  # the argument of PACKET_FANOUT
    rings: tuple[PacketRing, ...] = ()
    dropped: int = 0  # packets that waited and are lost, or were dropped before: PACKET_STATISTICS will tell
