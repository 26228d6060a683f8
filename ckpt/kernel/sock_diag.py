"""The kernel's socket tables through NETLINK_SOCK_DIAG."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ckpt.errors import KernelError
from ckpt.kernel import uapi_socket as u
from ckpt.kernel.libc import kernel_error

_MD5SIG = 100  # sizeof(struct tcp_diag_md5sig)


@dataclass(frozen=True, slots=True)
class UnixSocket:
    """One Unix socket of this network namespace."""

    ino: int
    kind: int  # SOCK_*
    state: int  # TCP_ESTABLISHED, TCP_LISTEN, TCP_CLOSE
    name: bytes  # sun_path without the family; b"" when unbound
    vfs: tuple[int, int] | None  # inode and kernel dev_t of the socket file
    peer: int | None  # inode; 0 for a peer that is closed or not accepted yet; None without a peer
    icons: tuple[int, ...]  # inodes of the clients that wait to be accepted
    rqueue: int  # queued bytes; for a listener the pending connections
    wqueue: int  # for a listener the backlog
    shutdown: int  # RCV_SHUTDOWN | SEND_SHUTDOWN


@dataclass(frozen=True, slots=True)
class InetSocket:
    """One TCP, UDP, UDP-Lite or raw socket."""

    ino: int
    state: int
    shutdown: int
    local: bytes  # port (network byte order) and 16 bytes of address, IPv4 as mapped into IPv6
    remote: bytes
    queued: int  # bytes that were received and not read
    keys: tuple[bytes, ...] = ()  # struct tcp_diag_md5sig each


@dataclass(frozen=True, slots=True)
class PacketSocket:
    """One packet socket."""

    num: int  # ETH_P_*, in host byte order
    attributes: dict[int, bytes]  # PACKET_DIAG_*, but for empty ones


def unix_sockets() -> dict[int, UnixSocket]:
    """Every Unix socket by inode."""
    show = u.UDIAG_SHOW_NAME | u.UDIAG_SHOW_VFS | u.UDIAG_SHOW_PEER | u.UDIAG_SHOW_ICONS | u.UDIAG_SHOW_RQLEN
    request = struct.pack("<BBHIIIII", u.AF_UNIX, 0, 0, 0xFFFFFFFF, 0, show, 0xFFFFFFFF, 0xFFFFFFFF)
    found: dict[int, UnixSocket] = {}
    for body in _dump(request):
        _family, kind, state, _pad, ino = struct.unpack_from("<BBBBI", body)
        attributes = dict(_attributes(body, 16))
        vfs = attributes.get(u.UNIX_DIAG_VFS)
        peer = attributes.get(u.UNIX_DIAG_PEER)
        icons = attributes.get(u.UNIX_DIAG_ICONS, b"")
        rqlen = attributes.get(u.UNIX_DIAG_RQLEN, b"\0" * 8)
        found[ino] = UnixSocket(
            ino,
            kind,
            state,
            attributes.get(u.UNIX_DIAG_NAME, b""),
            struct.unpack("<II", vfs) if vfs else None,
            int.from_bytes(peer, "little") if peer is not None else None,
            struct.unpack(f"<{len(icons) // 4}I", icons),
            int.from_bytes(rqlen[:4], "little"),
            int.from_bytes(rqlen[4:8], "little"),
            attributes.get(u.UNIX_DIAG_SHUTDOWN, b"\0")[0],
        )
    return found


def inet_sockets(family: int, protocol: int) -> dict[int, InetSocket]:
    """Every socket of one family and protocol by inode; those that no descriptor leads to are left out."""
    return {entry.ino: entry for entry in _inet(family, protocol) if entry.ino}


def embryos() -> list[InetSocket]:
    """The TCP connections that wait to be accepted: established, and no descriptor leads to them."""
    return _nameless(u.TCP_ESTABLISHED, u.TCP_CLOSE_WAIT)


def leaving() -> list[InetSocket]:
    """The TCP connections that their owners have closed, and that still have something to say to the other end."""
    return _nameless(u.TCP_FIN_WAIT1, u.TCP_CLOSING, u.TCP_LAST_ACK)


def requests() -> list[InetSocket]:
    """The connections that a listener has answered and not taken yet, as with TCP_DEFER_ACCEPT until data comes."""
    return _nameless(u.TCP_SYN_RECV)


def _nameless(*states: int) -> list[InetSocket]:
    both = [*_inet(u.AF_INET, u.IPPROTO_TCP), *_inet(u.AF_INET6, u.IPPROTO_TCP)]
    return [entry for entry in both if not entry.ino and entry.state in states]


def forget_ended(local: bytes) -> int:
    """Have the kernel forget the TCP connections from `local` (as `InetSocket.local`, port alone when the address is
    any) that nobody holds and that have said and heard everything: TIME_WAIT and FIN_WAIT2. How many there were.

    A port stays taken by them for a minute. NotPermitted without CAP_NET_ADMIN.
    """
    count = 0
    for family in (u.AF_INET, u.AF_INET6):
        request = struct.pack("<BBBBI", family, u.IPPROTO_TCP, 0, 0, 0xFFFFFFFF) + b"\0" * 48
        for body in list(_dump(request)):
            ino = struct.unpack_from("<I", body, 68)[0]
            if ino or body[1] not in (u.TCP_TIME_WAIT, u.TCP_FIN_WAIT2) or body[4:6] != local[:2]:
                continue
            # struct inet_diag_req_v2 holds the same struct inet_diag_sockid as the answer.
            one = struct.pack("<BBBBI", family, u.IPPROTO_TCP, 0, 0, 0xFFFFFFFF) + body[4:52]
            try:
                for _ in _ask(one, u.SOCK_DESTROY, u.NLM_F_REQUEST | u.NLM_F_ACK):
                    pass
                count += 1
            except KernelError as error:
                if error.errno != errno.ENOENT:  # its time is over
                    raise
    return count


def _inet(family: int, protocol: int) -> Iterator[InetSocket]:
    extensions = 1 << u.INET_DIAG_INFO - 1 if protocol == u.IPPROTO_TCP else 0  # the keys come with it
    request = struct.pack("<BBBBI", family, protocol, extensions, 0, 0xFFFFFFFF) + b"\0" * 48
    for body in _dump(request):
        queued, ino = struct.unpack_from("<I8xI", body, 56)
        attributes = dict(_attributes(body, 72))
        shutdown = attributes.get(u.INET_DIAG_SHUTDOWN, b"\0")[0]
        local = body[4:6] + _mapped(family, body[8:24])
        remote = body[6:8] + _mapped(family, body[24:40])
        table = attributes.get(u.INET_DIAG_MD5SIG, b"")
        keys = tuple(table[at : at + _MD5SIG] for at in range(0, len(table), _MD5SIG))
        yield InetSocket(ino, body[1], shutdown, local, remote, queued, keys)


def _mapped(family: int, address: bytes) -> bytes:
    return b"\0" * 10 + b"\xff\xff" + address[:4] if family == u.AF_INET else address


def raw_peer(family: int, ino: int) -> bytes:
    """The sockaddr that a raw socket is connected to, b"" for none: getpeername tells only of those with a port."""
    path = Path("/proc/net/raw" if family == u.AF_INET else "/proc/net/raw6")
    for line in path.read_text().splitlines()[1:] if path.exists() else ():
        fields = line.split()
        if int(fields[9]) == ino and int(fields[3], 16) == u.TCP_ESTABLISHED:
            words = fields[2].partition(":")[0]
            host = b"".join(struct.pack("<I", int(words[n : n + 8], 16)) for n in range(0, len(words), 8))
            if family == u.AF_INET:
                return struct.pack("<HH4s8x", family, 0, host)
            return struct.pack("<HHI16sI", family, 0, 0, host, 0)
    return b""


def packet_sockets() -> dict[int, PacketSocket]:
    """Every packet socket by inode."""
    show = u.PACKET_SHOW_MCLIST | u.PACKET_SHOW_RING_CFG | u.PACKET_SHOW_FANOUT
    request = struct.pack("<BBHIIII", u.AF_PACKET, 0, 0, 0, show, 0, 0)
    found: dict[int, PacketSocket] = {}
    for body in _dump(request):
        num, ino = struct.unpack_from("<HI", body, 2)
        # PACKET_DIAG_MCLIST is always there; without memberships it is empty.
        found[ino] = PacketSocket(num, {kind: value for kind, value in _attributes(body, 16) if value})
    return found


def _attributes(body: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    while offset + 4 <= len(body):
        length, kind = struct.unpack_from("<HH", body, offset)
        if length < 4:
            return
        yield kind & 0x3FFF, body[offset + 4 : offset + length]
        offset += (length + 3) & ~3


_MODULES = "load the kernel's modules for it: modprobe -a inet_diag tcp_diag udp_diag raw_diag unix_diag"


def _dump(request: bytes) -> Iterator[bytes]:
    """The bodies of every answer to one SOCK_DIAG_BY_FAMILY dump."""
    return _ask(request, u.SOCK_DIAG_BY_FAMILY, u.NLM_F_REQUEST | u.NLM_F_DUMP)


def _ask(request: bytes, what: int, flags: int) -> Iterator[bytes]:
    """The bodies of every answer to one request, to its end or its acknowledgement."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, u.NETLINK_SOCK_DIAG) as link:
            header = struct.pack("<IHHII", 16 + len(request), what, flags, 1, 0)
            link.send(header + request)
            while True:
                answer = link.recv(1 << 18)
                offset = 0
                while offset + 16 <= len(answer):
                    length, kind, _flags, _seq, _pid = struct.unpack_from("<IHHII", answer, offset)
                    if kind == u.NLMSG_DONE:
                        return
                    if kind == u.NLMSG_ERROR:
                        number = -struct.unpack_from("<i", answer, offset + 16)[0]
                        if not number:
                            return
                        raise kernel_error("sock_diag", number, hint=_MODULES)
                    yield answer[offset + 16 : offset + length]
                    offset += (length + 3) & ~3
    except OSError as error:
        raise KernelError(f"sock_diag: {os.strerror(error.errno or 0)}", errno=error.errno or 0) from error
