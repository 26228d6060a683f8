"""IPv4 and IPv6 sockets: TCP, UDP, UDP-Lite, ping and raw sockets. Connected TCP is in `tcp`."""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import replace

from ckpt.errors import KernelError
from ckpt.kernel import datagrams, sock_diag, sockets
from ckpt.kernel import uapi_socket as u
from ckpt.records.files import FileRecord
from ckpt.records.sockets import InetPayload, QueuedMessage, SocketError, SocketOption
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files import inetbind, outside, rawqueue, tcp, tcpbacklog, tcpidle, udpcorked, udperrors, udpqueue
from ckpt.state.files.base import FileView
from ckpt.state.files.inetnames import host_of, port_of, show
from ckpt.state.files.sockfamily import refuse_foreign_namespace, socket_family
from ckpt.state.files.sockopts import CONNECTED_TCP, IDLE_TCP, apply_options, collect_options
from ckpt.state.rebuild import failed

SUPPORT = Support(
    "sockets",
    "TCP listening, UDP, ping, raw",
    "options, peers, queues, datagrams begun, errors not fetched; TCP connecting, or ended; Multipath TCP listening; "
    "those that processes outside hold, too, are shared with them again",
    lost="that the port of a connection that was reset is free: it is held until the socket is closed; leases of "
    "IPv6 flow labels; that a socket is the IPv6 multicast router (MRT6_INIT)",
)

_STREAMS = {u.IPPROTO_TCP: "TCP", u.IPPROTO_MPTCP: "Multipath TCP"}
_DATAGRAMS = {
    u.IPPROTO_UDP: "UDP",
    u.IPPROTO_UDPLITE: "UDP-Lite",
    u.IPPROTO_ICMP: "ping",
    u.IPPROTO_ICMPV6: "ping",
}


class InetKind:
    """A socket of AF_INET or AF_INET6."""

    kind = "inet-socket"

    def recognises(self, view: FileView) -> bool:
        return socket_family(view) in (u.AF_INET, u.AF_INET6)

    def collect(self, view: FileView, context: CollectContext) -> InetPayload:
        with view.stolen(context) as fd:
            return self._collect(view, fd, context)

    def _collect(self, view: FileView, fd: int, context: CollectContext) -> InetPayload:
        family = socket_family(view)
        kind = sockets.getsockopt_int(fd, u.SOL_SOCKET, u.SO_TYPE)
        protocol = sockets.getsockopt_int(fd, u.SOL_SOCKET, u.SO_PROTOCOL)
        _refuse_protocol(view, kind, protocol, context)
        refuse_foreign_namespace(view, fd, context)
        name = sockets.getsockname(fd)
        state, ended, repaired = u.TCP_CLOSE, False, False
        more: tuple[tuple[int, int], ...] = ()
        if kind == u.SOCK_STREAM and protocol == u.IPPROTO_TCP:
            state = sockets.getsockopt(fd, u.SOL_TCP, u.TCP_INFO, 1)[0]
            repaired = sockets.getsockopt_int(fd, u.SOL_TCP, u.TCP_REPAIR) != 0
            if repaired:  # ckpt would take it out of it, and what was held back would be sent
                reason = "is in repair mode (TCP_REPAIR)"
                context.refuse(view.pid, view.subject, reason, "dump again when the task has left it", passing=True)
            ended = state == u.TCP_CLOSE and tcpidle.has_ended(fd)
            more = IDLE_TCP if state in (u.TCP_CLOSE, u.TCP_LISTEN) and not ended else ()
            more = CONNECTED_TCP if state in tcp.CONNECTED else more
        options = collect_options(view, fd, family, kind, protocol, context, more)
        if (family, kind, protocol) == (u.AF_INET, u.SOCK_RAW, u.IPPROTO_IGMP) and _is_router(fd):
            reason = "is the multicast router of its network (MRT_INIT)"
            context.refuse(view.pid, view.subject, reason, "end the multicast routing before the dump")
        backlog = 0
        connection = None
        error = 0
        errors: tuple[SocketError, ...] = ()
        queue: tuple[QueuedMessage, ...] = ()
        begun: QueuedMessage | None = None
        peer = sockets.getpeername(fd) or b""
        if not peer and kind == u.SOCK_RAW:
            peer = sock_diag.raw_peer(family, view.stat.st_ino)
        if kind == u.SOCK_STREAM and protocol == u.IPPROTO_MPTCP:
            state, backlog = _multipath(view, fd, context)
        elif kind == u.SOCK_STREAM and protocol == u.IPPROTO_TCP:
            info = sockets.getsockopt(fd, u.SOL_TCP, u.TCP_INFO, 104)
            state = info[0]
            if state == u.TCP_LISTEN:
                # In a listener tcpi_unacked is the number of connections that wait, tcpi_sacked the backlog.
                waiting, backlog = struct.unpack_from("<II", info, 24)
                if waiting or sockets.getsockopt_int(fd, u.SOL_TCP, u.TCP_DEFER_ACCEPT):
                    tcpbacklog.note_listener(context, view, name)
            elif state in tcp.CONNECTED:
                if sockets.failed(fd):
                    reason = "has something in its error queue (MSG_ZEROCOPY, a timestamp) that cannot be made again"
                    context.refuse(view.pid, view.subject, reason, udperrors.FETCH, passing=True)
                if not repaired:
                    connection = tcp.collect_connection(view, fd, state, options, context)
            elif state == u.TCP_SYN_SENT:
                peer = tcpidle.syn_peer(family, view.stat.st_ino)
            elif state == u.TCP_CLOSE:
                if ended:
                    error, queue = tcpidle.collect_ended(fd)
            else:
                context.refuse(view.pid, view.subject, f"is a TCP connection in state {_state(state)}")
        elif kind != u.SOCK_STREAM:
            if _is_udp(kind, protocol):
                error, errors = udperrors.collect(view, fd, family, peer, context)
                begun = udpcorked.collect(view, fd, family, peer, context)
            if error and sockets.readable(fd):  # a look at the queue would fetch the error instead
                context.refuse(
                    view.pid, view.subject, "has an error and datagrams waiting", udperrors.FETCH, passing=True
                )
            else:
                queue = _queue(view, fd, kind, protocol, context)
        entry = _table(family, protocol, context).get(view.stat.st_ino)
        shutdown = entry.shutdown if entry else 0
        if entry is not None and entry.keys:
            options = replace(options, values=(*options.values, *map(_md5_key, entry.keys)))
        return InetPayload(
            ino=view.stat.st_ino,
            family=family,
            type=kind,
            protocol=protocol,
            state=state,
            name=name,
            bound=port_of(name) != 0 or any(host_of(name)),
            peer=peer,
            backlog=backlog,
            shutdown=shutdown,
            queue=queue,
            options=options,
            connection=connection,
            ended=ended,
            error=error,
            errors=errors,
            begun=begun,
        )

    def restore(self, file: FileRecord, context: RestoreContext) -> int:
        payload: InetPayload = file.payload
        what = f"socket {describe(payload)}"
        try:
            if payload.connection is not None:
                return tcp.restore_connection(payload, context)
            if payload.ended or payload.state == u.TCP_SYN_SENT:
                return tcpidle.restore(payload, context)
            if payload.ino in _table(payload.family, payload.protocol, context):  # else it is known by its address
                fd = outside.take(payload.ino, payload.name, context)
                if fd is not None:
                    return fd
            made = sockets.make_socket(payload.family, payload.type, payload.protocol)
            try:
                _build(made, payload, context)
            except BaseException:
                os.close(made)
                raise
            return made
        except KernelError as error:
            if error.errno == errno.EADDRINUSE and payload.connection is None:
                fd = outside.take(payload.ino, payload.name, context)
                if fd is not None:
                    return fd
            raise failed(what, error) from error


def _build(fd: int, payload: InetPayload, context: RestoreContext) -> None:
    subject = describe(payload)
    apply_options(fd, payload.options, final=False)
    if payload.type != u.SOCK_STREAM and not _is_udp(payload.type, payload.protocol):
        rawqueue.restore(fd, payload, context, lambda: _finish(fd, payload))
    filled = _is_udp(payload.type, payload.protocol) and udpqueue.fills_unbound(payload)
    senders: dict[tuple[int, bytes, int], int] = context.shared.setdefault("udp:senders", {})
    if filled:
        udpqueue.fill_unbound(fd, payload, subject, senders)
    if payload.bound:
        inetbind.bind(fd, payload)
        senders[payload.protocol, datagrams.host(payload.name), port_of(payload.name)] = fd
    if payload.state == u.TCP_LISTEN:
        sockets.listen(fd, payload.backlog)
        apply_options(fd, payload.options, final=True, subject=subject)
        return
    if payload.type == u.SOCK_STREAM:
        apply_options(fd, payload.options, final=True, subject=subject)
        return
    if _is_udp(payload.type, payload.protocol):
        if not filled:
            udpqueue.refill(fd, payload, subject, senders)
        _finish(fd, payload)


def _is_router(fd: int) -> bool:
    """Whether the socket has done MRT_INIT, which no call tells: it gets the packets with a router alert already."""
    if sockets.getsockopt_int(fd, u.SOL_IP, u.IP_ROUTER_ALERT):
        return False
    try:
        sockets.setsockopt(fd, u.SOL_IP, u.IP_ROUTER_ALERT, 1)
    except KernelError as error:
        return error.errno == errno.EADDRINUSE
    sockets.setsockopt(fd, u.SOL_IP, u.IP_ROUTER_ALERT, 0)
    return False


def _is_udp(kind: int, protocol: int) -> bool:
    """UDP or UDP-Lite, and not a raw socket of their number."""
    return kind == u.SOCK_DGRAM and protocol in (u.IPPROTO_UDP, u.IPPROTO_UDPLITE)


def _finish(fd: int, payload: InetPayload) -> None:
    """What comes when the queue is filled."""
    try:
        if payload.peer:
            sockets.connect(fd, payload.peer)
        udpcorked.restore(fd, payload)
        if payload.shutdown:
            _shut(fd, payload.shutdown - 1)
        if _is_udp(payload.type, payload.protocol):
            udperrors.restore(fd, payload)
        apply_options(fd, payload.options, final=True, subject=describe(payload))
    except KernelError as error:
        raise failed(f"socket {describe(payload)}", error) from error


def _shut(fd: int, how: int) -> None:
    """One that is not connected is shut all the same, which wakes those who wait, and the call says ENOTCONN."""
    try:
        sockets.shutdown(fd, how)
    except KernelError as error:
        if error.errno != errno.ENOTCONN:
            raise


def _queue(view: FileView, fd: int, kind: int, protocol: int, context: CollectContext) -> tuple[QueuedMessage, ...]:
    if _is_udp(kind, protocol):
        return udpqueue.collect(fd, socket_family(view))
    return rawqueue.collect(view, fd, kind, protocol, context) if sockets.readable(fd) else ()


def _md5_key(key: bytes) -> SocketOption:
    """A key of TCP_MD5SIG, from struct tcp_diag_md5sig to what setsockopt takes, struct tcp_md5sig."""
    family, prefix, length = struct.unpack_from("<BBH", key)
    host, secret = key[4:20], key[20:]
    if family == u.AF_INET:
        address = struct.pack("<HH4s", family, 0, host[:4])
    else:
        address = struct.pack("<HHI16s", family, 0, 0, host)
    head = address.ljust(u.SOCKADDR_STORAGE_SIZE, b"\0")
    value = head + struct.pack("<BBHI", u.TCP_MD5SIG_FLAG_PREFIX, prefix, length, 0) + secret
    return SocketOption(u.SOL_TCP, u.TCP_MD5SIG_EXT, value)


def _multipath(view: FileView, fd: int, context: CollectContext) -> tuple[int, int]:
    """State and backlog of a Multipath TCP socket (those of its first subflow); connections are refused."""
    info = sockets.getsockopt(fd, u.SOL_TCP, u.TCP_INFO, 104)
    state = info[0]
    waiting, backlog = struct.unpack_from("<II", info, 24) if state == u.TCP_LISTEN else (0, 0)
    if state not in (u.TCP_CLOSE, u.TCP_LISTEN) or (state == u.TCP_CLOSE and tcpidle.has_ended(fd)):
        reason = "is a Multipath TCP connection, which cannot be held still and read"
        context.refuse(view.pid, view.subject, reason, "end it before the dump, or run the task without MPTCP")
    if waiting:
        reason = "has Multipath TCP connections that wait to be accepted"
        context.refuse(view.pid, view.subject, reason, "let the task accept them, then dump again", passing=True)
    return state, backlog


def _refuse_protocol(view: FileView, kind: int, protocol: int, context: CollectContext) -> None:
    known = _STREAMS if kind == u.SOCK_STREAM else _DATAGRAMS
    if kind != u.SOCK_RAW and protocol not in known:
        names = {132: "SCTP", 33: "DCCP"}
        name = names.get(protocol, f"protocol {protocol}")
        context.refuse(view.pid, view.subject, f"is a socket of {name}")


def _table(family: int, protocol: int, context: CollectContext | RestoreContext) -> dict[int, sock_diag.InetSocket]:
    """The kernel's table of one protocol; empty where the kernel has no diag module for it."""
    key = f"inet-diag:{family}:{protocol}"
    if protocol == u.IPPROTO_MPTCP:  # the request has no room for the number
        return {}
    if key not in context.shared:
        try:
            context.shared[key] = sock_diag.inet_sockets(family, protocol)
        except KernelError:
            context.shared[key] = {}
    table: dict[int, sock_diag.InetSocket] = context.shared[key]
    return table


def _state(state: int) -> str:
    return u.TCP_STATE_NAMES.get(state, str(state))


def describe(payload: InetPayload) -> str:
    """How errors of the restore name the socket."""
    kinds = _STREAMS if payload.type == u.SOCK_STREAM else _DATAGRAMS
    text = f"{kinds.get(payload.protocol, 'raw')} {show(payload.name)}"
    return f"{text} to {show(payload.peer)}" if payload.peer else text


KIND = InetKind()
