"""Socket options: read from a stolen descriptor, put back where the fresh socket differs."""

from __future__ import annotations

import errno
import re
import struct
from pathlib import Path

from ckpt.errors import KernelError, RestoreError
from ckpt.kernel import reuseport, sockets
from ckpt.kernel import uapi_socket as u
from ckpt.records.sockets import Membership, SocketOption, SocketOptions
from ckpt.records.support import Support
from ckpt.state.context import CollectContext
from ckpt.state.files.base import FileView

SUPPORT = Support(
    "sockets",
    "socket options",
    "all that can be read and set",
    lost="without CAP_BPF, the program by which sockets share a port (SO_ATTACH_REUSEPORT_CBPF)",
)

# name -> size of the value; everything not listed is an int
_SIZES = {
    (u.SOL_SOCKET, u.SO_LINGER): 8,
    (u.SOL_SOCKET, u.SO_RCVTIMEO): 16,
    (u.SOL_SOCKET, u.SO_SNDTIMEO): 16,
    (u.SOL_SOCKET, u.SO_BINDTODEVICE): 16,
    (u.SOL_SOCKET, u.SO_TIMESTAMPING): 8,
    (u.SOL_SOCKET, u.SO_TIMESTAMPING_NEW): 8,
    (u.SOL_SOCKET, u.SO_TXTIME): 8,
    (u.SOL_SOCKET, u.SO_MAX_PACING_RATE): 8,
    (u.SOL_IP, u.IP_OPTIONS): 40,
    (u.SOL_IPV6, u.IPV6_HOPOPTS): 2048,
    (u.SOL_IPV6, u.IPV6_RTHDRDSTOPTS): 2048,
    (u.SOL_IPV6, u.IPV6_RTHDR): 2048,
    (u.SOL_IPV6, u.IPV6_DSTOPTS): 2048,
    (u.SOL_TCP, u.TCP_FASTOPEN_KEY): 32,
    (u.SOL_TCP, u.TCP_CONGESTION): 16,
    (u.SOL_RAW, u.ICMP_FILTER): 4,
    (u.SOL_ICMPV6, u.ICMPV6_FILTER): 32,
}

_SOCKET = (
    u.SO_DEBUG, u.SO_REUSEADDR, u.SO_REUSEPORT, u.SO_DONTROUTE, u.SO_BROADCAST, u.SO_SNDBUF, u.SO_RCVBUF,
    u.SO_KEEPALIVE, u.SO_OOBINLINE, u.SO_NO_CHECK, u.SO_PRIORITY, u.SO_LINGER, u.SO_RCVLOWAT, u.SO_RCVTIMEO,
    u.SO_SNDTIMEO, u.SO_BINDTODEVICE, u.SO_TIMESTAMP, u.SO_TIMESTAMPNS, u.SO_TIMESTAMPING, u.SO_MARK,
    u.SO_RXQ_OVFL, u.SO_SELECT_ERR_QUEUE, u.SO_BUSY_POLL, u.SO_PREFER_BUSY_POLL, u.SO_BUSY_POLL_BUDGET,
    u.SO_MAX_PACING_RATE, u.SO_ZEROCOPY, u.SO_WIFI_STATUS, u.SO_NOFCS, u.SO_INCOMING_CPU, u.SO_TXREHASH, u.SO_BUF_LOCK,
    u.SO_TXTIME, u.SO_TIMESTAMP_NEW, u.SO_TIMESTAMPNS_NEW, u.SO_TIMESTAMPING_NEW, u.SO_RCVMARK, u.SO_RCVPRIORITY,
)  # fmt: skip
_UNIX = (u.SO_PASSCRED, u.SO_PASSSEC, u.SO_PASSPIDFD, u.SO_PASSRIGHTS, u.SO_PEEK_OFF)
_IP = (
    u.IP_TRANSPARENT, u.IP_FREEBIND, u.IP_TOS, u.IP_TTL, u.IP_RECVOPTS, u.IP_RETOPTS, u.IP_PKTINFO,
    u.IP_MTU_DISCOVER, u.IP_RECVERR, u.IP_RECVTTL, u.IP_RECVTOS, u.IP_PASSSEC, u.IP_RECVORIGDSTADDR,
    u.IP_MINTTL, u.IP_CHECKSUM, u.IP_BIND_ADDRESS_NO_PORT, u.IP_RECVFRAGSIZE, u.IP_RECVERR_RFC4884,
    u.IP_MULTICAST_IF, u.IP_MULTICAST_TTL, u.IP_MULTICAST_LOOP, u.IP_MULTICAST_ALL, u.IP_UNICAST_IF,
    u.IP_LOCAL_PORT_RANGE, u.IP_OPTIONS,
)  # fmt: skip
_IPV6 = (
    u.IPV6_V6ONLY, u.IPV6_TRANSPARENT, u.IPV6_FREEBIND, u.IPV6_UNICAST_HOPS, u.IPV6_MULTICAST_IF,
    u.IPV6_MULTICAST_HOPS, u.IPV6_MULTICAST_LOOP, u.IPV6_MULTICAST_ALL, u.IPV6_MTU_DISCOVER, u.IPV6_RECVERR,
    u.IPV6_RECVERR_RFC4884, u.IPV6_FLOWINFO_SEND, u.IPV6_RECVPKTINFO, u.IPV6_RECVHOPLIMIT,
    u.IPV6_RECVHOPOPTS, u.IPV6_RECVRTHDR, u.IPV6_RECVDSTOPTS, u.IPV6_RECVPATHMTU, u.IPV6_DONTFRAG,
    u.IPV6_RECVTCLASS, u.IPV6_TCLASS, u.IPV6_AUTOFLOWLABEL, u.IPV6_ADDR_PREFERENCES, u.IPV6_MINHOPCOUNT,
    u.IPV6_RECVORIGDSTADDR, u.IPV6_UNICAST_IF, u.IPV6_RECVFRAGSIZE,
    u.IPV6_2292PKTINFO, u.IPV6_2292HOPOPTS, u.IPV6_2292DSTOPTS, u.IPV6_2292RTHDR, u.IPV6_2292HOPLIMIT,
    u.IPV6_FLOWINFO, u.IPV6_ROUTER_ALERT_ISOLATE, u.IPV6_HOPOPTS, u.IPV6_RTHDRDSTOPTS, u.IPV6_RTHDR, u.IPV6_DSTOPTS,
)  # fmt: skip
_TCP = (
    u.TCP_NODELAY, u.TCP_CORK, u.TCP_KEEPIDLE, u.TCP_KEEPINTVL, u.TCP_KEEPCNT, u.TCP_SYNCNT, u.TCP_LINGER2,
    u.TCP_DEFER_ACCEPT, u.TCP_CONGESTION, u.TCP_THIN_LINEAR_TIMEOUTS, u.TCP_USER_TIMEOUT, u.TCP_FASTOPEN,
    u.TCP_NOTSENT_LOWAT, u.TCP_SAVE_SYN, u.TCP_FASTOPEN_CONNECT, u.TCP_FASTOPEN_NO_COOKIE, u.TCP_INQ,
    u.TCP_TX_DELAY, u.TCP_RTO_MAX_MS, u.TCP_RTO_MIN_US, u.TCP_DELACK_MAX_US,
)  # fmt: skip
_UDP = (
    u.UDP_CORK, u.UDP_NO_CHECK6_TX, u.UDP_NO_CHECK6_RX, u.UDP_SEGMENT, u.UDP_GRO, u.UDP_ENCAP,
)  # fmt: skip
_UDPLITE = (u.UDPLITE_SEND_CSCOV, u.UDPLITE_RECV_CSCOV)
_NETLINK = (
    u.NETLINK_PKTINFO, u.NETLINK_BROADCAST_ERROR, u.NETLINK_NO_ENOBUFS, u.NETLINK_LISTEN_ALL_NSID,
    u.NETLINK_CAP_ACK, u.NETLINK_EXT_ACK, u.NETLINK_GET_STRICT_CHK,
)  # fmt: skip
_PACKET = (
    u.PACKET_AUXDATA, u.PACKET_ORIGDEV, u.PACKET_VERSION, u.PACKET_RESERVE, u.PACKET_LOSS, u.PACKET_VNET_HDR,
    u.PACKET_TIMESTAMP, u.PACKET_QDISC_BYPASS, u.PACKET_IGNORE_OUTGOING, u.PACKET_COPY_THRESH, u.PACKET_TX_HAS_OFF,
    u.PACKET_VNET_HDR_SZ,
)  # fmt: skip

# bind(2) sets it for an IPv6 address, and nothing can change it afterwards; nor does it matter then.
_SETTLED = {(u.SOL_IPV6, u.IPV6_V6ONLY)}

_ABSENT = (errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTCONN, errno.EPERM, errno.ENODEV)


def collect_options(
    view: FileView,
    fd: int,
    family: int,
    kind: int,
    protocol: int,
    context: CollectContext,
    more: tuple[tuple[int, int], ...] = (),
) -> SocketOptions:
    """Every option of the stolen socket `fd` that can be put back; options this kernel lacks are left out.

    `more`: (level, name) of options that mean something in the socket's present state only.
    """
    values = []
    for level, name in [*_names(family, kind, protocol), *more]:
        value = _read(fd, level, name)
        if value is not None and not _computed(level, name, value):
            values.append(SocketOption(level, name, value))
    memberships = _memberships(fd, family) if family in (u.AF_INET, u.AF_INET6) else ()
    program = _filter(view, fd, context)
    locked = bool(program and sockets.getsockopt_int(fd, u.SOL_SOCKET, u.SO_LOCK_FILTER))
    return SocketOptions(tuple(values), program, memberships, locked, _reuseport(view, fd, family, context))


def apply_options(fd: int, options: SocketOptions, *, final: bool, subject: str = "socket") -> None:
    """Put options back: before bind, where failures are left for later, and again with `final` at the end.

    Raises RestoreError when an option cannot be set at last.
    """
    for option in options.values:
        if not final and (option.level, option.name) in CONNECTED_TCP:
            continue
        before = _read(fd, option.level, option.name)
        if before == option.value:
            continue
        try:
            _write(fd, option)
        except KernelError as error:
            if final and before is not None and (option.level, option.name) not in _SETTLED:
                where = f"option {option.level}/{option.name} of {subject}"
                raise RestoreError(f"{where} cannot be set again: {error.message}") from error
    if final:
        _attach_filter(fd, options.filter)
        for membership in options.memberships:
            _join(fd, membership)
        if options.reuseport:
            sockets.attach_reuseport(fd, options.reuseport)
        if options.locked:
            sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_LOCK_FILTER, 1)


def peek_offset(fd: int) -> int:
    """SO_PEEK_OFF; -1 when it is off or the family has none."""
    value = _read(fd, u.SOL_SOCKET, u.SO_PEEK_OFF)
    return -1 if value is None else int.from_bytes(value, "little", signed=True)


# setsockopt takes these for datagrams only, and a connection has other values in them than a fresh socket.
_MULTICAST = {
    (u.SOL_IP, u.IP_MULTICAST_IF),
    (u.SOL_IP, u.IP_MULTICAST_TTL),
    (u.SOL_IP, u.IP_MULTICAST_LOOP),
    (u.SOL_IP, u.IP_MULTICAST_ALL),
    (u.SOL_IPV6, u.IPV6_MULTICAST_IF),
    (u.SOL_IPV6, u.IPV6_MULTICAST_HOPS),
    (u.SOL_IPV6, u.IPV6_MULTICAST_LOOP),
    (u.SOL_IPV6, u.IPV6_MULTICAST_ALL),
}

# Of TCP sockets that are not connected: in a connection they show what is in use, not what was set.
IDLE_TCP = (
    (u.SOL_TCP, u.TCP_MAXSEG),
    (u.SOL_TCP, u.TCP_WINDOW_CLAMP),
    (u.SOL_TCP, u.TCP_QUICKACK),
    (u.SOL_TCP, u.TCP_FASTOPEN_KEY),
    (u.SOL_IP, u.IP_MULTICAST_LOOP),
    (u.SOL_IP, u.IP_MULTICAST_ALL),
    (u.SOL_IPV6, u.IPV6_MULTICAST_LOOP),
    (u.SOL_IPV6, u.IPV6_MULTICAST_ALL),
)

# Of connected ones: set at last, for a fresh socket would count it as the user's own wish.
CONNECTED_TCP = ((u.SOL_TCP, u.TCP_WINDOW_CLAMP),)


def _names(family: int, kind: int, protocol: int) -> list[tuple[int, int]]:
    names = [(u.SOL_SOCKET, name) for name in _SOCKET]
    levels: list[tuple[int, tuple[int, ...]]] = []
    if family == u.AF_UNIX:
        levels = [(u.SOL_SOCKET, _UNIX)]
    elif family == u.AF_NETLINK:
        levels = [(u.SOL_SOCKET, (u.SO_PASSCRED, u.SO_PASSSEC)), (u.SOL_NETLINK, _NETLINK)]
    elif family == u.AF_PACKET:
        levels = [(u.SOL_PACKET, _PACKET)]
    else:
        if family == u.AF_INET6:
            levels.append((u.SOL_IPV6, _IPV6))
        levels.append((u.SOL_IP, _IP))
        if kind == u.SOCK_STREAM:
            levels += [(u.SOL_TCP, _TCP), (u.SOL_SOCKET, (u.SO_PEEK_OFF,))]
        elif protocol == u.IPPROTO_UDP:
            levels.append((u.SOL_UDP, _UDP))
        elif protocol == u.IPPROTO_UDPLITE:
            levels.append((u.SOL_UDPLITE, _UDPLITE + _UDP))
        elif kind == u.SOCK_RAW:
            levels.append((u.SOL_IP, (u.IP_HDRINCL, u.IP_NODEFRAG, u.IP_ROUTER_ALERT)))
            if family == u.AF_INET6:
                levels += [(u.SOL_IPV6, (u.IPV6_HDRINCL,)), (u.SOL_RAW, (u.IPV6_CHECKSUM,))]
            if protocol == u.IPPROTO_ICMP:
                levels.append((u.SOL_RAW, (u.ICMP_FILTER,)))
            elif protocol == u.IPPROTO_ICMPV6:
                levels.append((u.SOL_ICMPV6, (u.ICMPV6_FILTER,)))
        if kind != u.SOCK_STREAM:
            levels.append((u.SOL_SOCKET, (u.SO_PEEK_OFF,)))
    names += [(level, name) for level, group in levels for name in group]
    return [name for name in names if name not in _MULTICAST] if kind == u.SOCK_STREAM else names


def _computed(level: int, name: int, value: bytes) -> bool:
    """Whether TCP_MAXSEG is the kernel's own: below TCP_MIN_MSS or above MAX_TCP_WINDOW nobody can have set it."""
    return (level, name) == (u.SOL_TCP, u.TCP_MAXSEG) and not 88 <= int.from_bytes(value, "little") <= 32767


def _read(fd: int, level: int, name: int) -> bytes | None:
    try:
        value = sockets.getsockopt(fd, level, name, _SIZES.get((level, name), 4))
    except KernelError as error:
        if error.errno in _ABSENT:
            return None
        raise
    if (level, name) == (u.SOL_TCP, u.TCP_CONGESTION):
        return value.split(b"\0")[0]
    return value


def _write(fd: int, option: SocketOption) -> None:
    value = option.value
    if (option.level, option.name) in ((u.SOL_SOCKET, u.SO_SNDBUF), (u.SOL_SOCKET, u.SO_RCVBUF)):
        # The kernel doubles what it is given. The FORCE variants pass over the sysctl limits.
        half = int.from_bytes(value, "little") // 2
        force = u.SO_SNDBUFFORCE if option.name == u.SO_SNDBUF else u.SO_RCVBUFFORCE
        try:
            sockets.setsockopt(fd, u.SOL_SOCKET, force, half)
        except KernelError:
            sockets.setsockopt(fd, u.SOL_SOCKET, option.name, half)
        return
    sockets.setsockopt(fd, option.level, option.name, value)


def _filter(view: FileView, fd: int, context: CollectContext) -> bytes:
    """The classic BPF program; an eBPF one cannot be read and is refused."""
    try:
        # Given length 0, the kernel answers with the number of instructions.
        buffer = sockets.getsockopt_count(fd, u.SOL_SOCKET, u.SO_GET_FILTER)
        if not buffer:
            return b""
        return sockets.getsockopt_filter(fd, buffer)
    except KernelError as error:
        if error.errno == errno.EACCES:
            reason = "has an eBPF socket filter, whose program the kernel gives only as rewritten for itself"
            context.refuse(view.pid, view.subject, reason, "let the task detach it (SO_DETACH_FILTER)")
            return b""
        raise


def _reuseport(view: FileView, fd: int, family: int, context: CollectContext) -> bytes:
    """The classic BPF program by which the sockets of a port share what comes."""
    if family not in (u.AF_INET, u.AF_INET6) or not sockets.getsockopt_int(fd, u.SOL_SOCKET, u.SO_REUSEPORT):
        return b""
    try:
        program = reuseport.program(fd)
    except KernelError:
        return b""
    if program is None:
        context.refuse(view.pid, view.subject, "shares its port by an eBPF program", "close it before the dump")
    return program or b""


def _attach_filter(fd: int, program: bytes) -> None:
    if program:
        sockets.attach_filter(fd, program)


def _groups(family: int) -> list[tuple[int, bytes]]:
    """Every (interface, group as sockaddr_storage) that some socket of this host has joined."""
    found = []
    if family == u.AF_INET:
        interface = 0
        for line in Path("/proc/net/igmp").read_text().splitlines()[1:]:
            if line[0].isdigit():
                interface = int(line.split()[0])
            elif match := re.match(r"\s+([0-9A-F]{8})\s", line):
                address = struct.pack("<I", int(match[1], 16))
                found.append((interface, _storage(struct.pack("<HH4s", u.AF_INET, 0, address))))
    elif Path("/proc/net/igmp6").exists():
        for line in Path("/proc/net/igmp6").read_text().splitlines():
            index, _name, group = line.split()[:3]
            address = bytes.fromhex(group)
            found.append((int(index), _storage(struct.pack("<HHI16s", u.AF_INET6, 0, 0, address))))
    return found


def _storage(address: bytes) -> bytes:
    return address.ljust(u.SOCKADDR_STORAGE_SIZE, b"\0")


def _memberships(fd: int, family: int) -> tuple[Membership, ...]:
    """The groups this socket is in: each group known to the host is asked for with MCAST_MSFILTER."""
    level = u.SOL_IP if family == u.AF_INET else u.SOL_IPV6
    found = []
    for interface, group in _groups(family):
        answer = sockets.group_filter(fd, level, interface, group)
        if answer is not None:
            found.append(Membership(interface, group, *answer))
    return tuple(found)


def _join(fd: int, membership: Membership) -> None:
    level = u.SOL_IP if struct.unpack_from("<H", membership.group)[0] == u.AF_INET else u.SOL_IPV6
    head = struct.pack("<Q", membership.interface) + membership.group
    if membership.mode == u.MCAST_INCLUDE:
        for source in membership.sources:
            sockets.setsockopt(fd, level, u.MCAST_JOIN_SOURCE_GROUP, head + source)
        return
    sockets.setsockopt(fd, level, u.MCAST_JOIN_GROUP, head)
    if membership.sources:
        tail = struct.pack("<II", membership.mode, len(membership.sources)) + b"".join(membership.sources)
        sockets.setsockopt(fd, level, u.MCAST_MSFILTER, head + tail)
