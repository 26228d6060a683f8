"""Connected TCP: held in the freeze, read through TCP_REPAIR, and given back or made again.

A connection to the outside is kept alive, deaf and dumb, by the holder process when its task is killed; a restore on
the same host takes that very socket. Everywhere else, and for both ends of a connection inside the tree, the
connection is made again from the image. The engine calls `release_connections` before a thaw, `keep_connections`
after a kill.
"""

from __future__ import annotations

import errno
import os
import secrets
from dataclasses import dataclass, field, replace

from ckpt.errors import KernelError
from ckpt.kernel import datagrams, sock_diag, sockets, tcp_holder, tcp_repair
from ckpt.kernel import uapi_socket as u
from ckpt.kernel.namespaces import INIT
from ckpt.records.files import FileRecord
from ckpt.records.sockets import InetPayload, SocketOptions, TcpConnection
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files import tcpbacklog
from ckpt.state.files.base import FileView
from ckpt.state.files.inetnames import endpoint
from ckpt.state.files.sockopts import apply_options
from ckpt.state.files.tcpbacklog import FIN_SENT
from ckpt.state.rebuild import failed

SUPPORT = Support(
    "sockets",
    "TCP connections",
    "inside the tree, and with `--tcp-established` to others: queues, urgent data, window, timestamps, half closed, "
    "shut; with `--tcp-close` those to others are closed sockets afterwards",
    lost="TCP_QUICKACK, which the kernel changes by itself; how far MSG_ZEROCOPY and SOF_TIMESTAMPING_OPT_ID have "
    "counted; the SYN that TCP_SAVE_SYN has kept",
)

_DUMP = "tcp:dump"
_BUILD = "tcp:build"
_SEGMENT = 16384  # bytes that go through the loopback interface in one packet
FIN_RECEIVED = frozenset({u.TCP_CLOSE_WAIT, u.TCP_CLOSING, u.TCP_LAST_ACK, u.TCP_TIME_WAIT})
CONNECTED = FIN_SENT | FIN_RECEIVED | {u.TCP_ESTABLISHED}


@dataclass
class _Dump:
    """The connections of one collection."""

    holder: tcp_holder.Holder
    token: str
    ends: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)  # inode -> (local, remote) as keys
    views: dict[int, FileView] = field(default_factory=dict)
    connections: dict[int, tuple[int, TcpConnection]] = field(default_factory=dict)  # state and what was read
    waiting: set[int] = field(default_factory=set)  # those that their listener in the tree has not accepted yet
    decided: bool = False


def collect_connection(
    view: FileView, fd: int, state: int, options: SocketOptions, context: CollectContext
) -> TcpConnection | None:
    """Hold the connection and read it. It stays held until `release_connections` or the task's end."""
    if not tcp_repair.allowed():
        reason = "is a TCP connection, which this user cannot hold still and read"
        context.refuse(view.pid, view.subject, reason, "run ckpt as root, or with CAP_NET_ADMIN")
        return None
    dump: _Dump | None = context.shared.get(_DUMP)
    if dump is None:
        dump = _Dump(tcp_holder.Holder(), secrets.token_hex(tcp_holder.TOKEN_SIZE // 2))
        context.shared[_DUMP] = dump
        context.stack.callback(release_connections, context)
    if options.locked:
        context.refuse(view.pid, view.subject, "is a TCP connection with a locked socket filter")
        return _nothing(dump.token)
    ino = view.stat.st_ino
    name, peer = sockets.getsockname(fd), sockets.getpeername(fd) or b""
    dump.ends[ino] = (endpoint(name), endpoint(peer)) if peer else (b"", b"")
    dump.views[ino] = view
    reuse = sockets.getsockopt_int(fd, u.SOL_SOCKET, u.SO_REUSEADDR)
    dump.holder.add(fd, ino, reuse, options.filter)
    tcp_repair.hold(fd)
    try:
        c = tcp_repair.read(fd, state in FIN_SENT, state in FIN_RECEIVED)
    except KernelError as error:
        if error.errno != errno.ENODATA:
            raise
        reason = "is a TCP connection with urgent data, beyond which this kernel cannot look"
        context.refuse(view.pid, view.subject, reason, "dump again when it has read it", passing=True)
        return _nothing(dump.token)
    connection = TcpConnection(
        receive_seq=c.receive_seq,
        send_seq=c.send_seq,
        receive_queue=c.receive_queue,
        send_queue=c.send_queue,
        unsent=c.unsent,
        mss_clamp=c.mss_clamp,
        send_wscale=c.send_wscale,
        receive_wscale=c.receive_wscale,
        wscale_ok=c.wscale_ok,
        sack_ok=c.sack_ok,
        timestamps=c.timestamps,
        timestamp=c.timestamp,
        window=c.window,
        holder=dump.token,
        urgent=c.urgent,
    )
    dump.connections[ino] = state, connection
    return connection


def _nothing(token: str) -> TcpConnection:
    """In place of a connection that was refused."""
    return TcpConnection(0, 0, b"", b"", 0, 0, 0, 0, False, False, False, 0, b"", token)


def finish_tcp(context: CollectContext) -> None:
    """Refuse connections to the outside that were not asked for. Called when every file is collected."""
    dump: _Dump | None = context.shared.get(_DUMP)
    ends = dump.ends if dump is not None else {}
    clients = {ends[ino]: tcpbacklog.Client(ino, *dump.connections[ino]) for ino in dump.connections} if dump else {}
    waiting = tcpbacklog.collect_waiting(context, clients)
    if dump is None:
        return
    dump.waiting = waiting
    _refuse_unsaid(context, dump)
    left = _leaving(dump)
    if context.options.tcp_established:
        for ino in left if any(task.pid == INIT for task in context.tasks) else ():
            view = dump.views[ino]
            reason = "is a TCP connection to the outside, whose holder would end with this pid namespace"
            context.refuse(view.pid, view.subject, reason, "--tcp-close ends it")
        return
    if context.options.tcp_close:
        _close(context, dump, left)
        return
    for ino in left:
        view = dump.views[ino]
        reason = "is a TCP connection to a socket outside the tree"
        context.refuse(view.pid, view.subject, reason, "--tcp-established keeps its connections, --tcp-close ends them")


def _refuse_unsaid(context: CollectContext, dump: _Dump) -> None:
    """The other end was closed, and what it said last is on its way: nobody would say it again after a restore."""
    unsaid = {(entry.remote, entry.local) for entry in sock_diag.leaving()} if dump.ends else set()
    for ino, ends in dump.ends.items():
        if ends in unsaid:
            view = dump.views[ino]
            reason = "is a TCP connection whose other end was closed with something still to say"
            context.refuse(view.pid, view.subject, reason, "dump again when it has been received", passing=True)


def _leaving(dump: _Dump) -> list[int]:
    """The connections that concern somebody outside."""
    found = []
    alive: dict[tuple[bytes, bytes], int] | None = None
    for ino in _outside(dump):
        local, remote = dump.ends[ino]
        if alive is None:
            table = [*_table(u.AF_INET), *_table(u.AF_INET6)]
            # Nor is one nobody's that its listener has not accepted yet.
            table += [*sock_diag.embryos(), *sock_diag.requests()]
            alive = {(entry.local, entry.remote): entry.ino for entry in table}
        if _loopback(remote) and (remote, local) not in alive:
            continue  # its other end on this host is closed: nobody outside is concerned
        found.append(ino)
    return found


def _close(context: CollectContext, dump: _Dump, inodes: list[int]) -> None:
    """The image gets a closed socket in the place of each; the kernel takes leave of the peer when the task ends."""
    dump.holder.free(inodes)
    for ino in inodes:
        del dump.ends[ino]
    for index, file in enumerate(context.records):
        if isinstance(file, FileRecord) and isinstance(file.payload, InetPayload) and file.payload.ino in inodes:
            closed = replace(file.payload, connection=None, state=u.TCP_CLOSE, ended=True, peer=b"", shutdown=0)
            context.records[index] = replace(file, payload=closed)


def release_connections(context: CollectContext) -> None:
    """The task goes on: every connection works again. Called before the thaw; safe to call twice."""
    dump: _Dump | None = context.shared.get(_DUMP)
    if dump is not None and not dump.decided:
        dump.decided = True
        dump.holder.release()


def keep_connections(context: CollectContext) -> None:
    """The task is killed: its connections to the outside stay, held, for the restore. No peer hears of it."""
    dump: _Dump | None = context.shared.get(_DUMP)
    if dump is not None and not dump.decided:
        dump.decided = True
        dump.holder.keep(dump.token, _outside(dump))


def _outside(dump: _Dump) -> list[int]:
    """The connections whose other end is not in the tree."""
    ends = set(dump.ends.values())
    return [
        ino for ino, (local, remote) in dump.ends.items() if (remote, local) not in ends and ino not in dump.waiting
    ]


def _table(family: int) -> list[sock_diag.InetSocket]:
    try:
        return list(sock_diag.inet_sockets(family, u.IPPROTO_TCP).values())
    except KernelError:
        return []


def _loopback(end: bytes) -> bool:
    address = end[2:]
    return address == b"\0" * 15 + b"\1" or address[:13] == b"\0" * 10 + b"\xff\xff\x7f"


# ---------------------------------------------------------------- restore


@dataclass
class _Build:
    """The connections of one restore."""

    made: list[tuple[int, InetPayload]] = field(default_factory=list)
    taken: dict[str, tcp_holder.Kept | None] = field(default_factory=dict)


def restore_connection(payload: InetPayload, context: RestoreContext) -> int:
    """The held socket itself, or a fresh one that is made the connection when every file is open.

    (Listeners on the same port must be bound before, and both ends stand before either speaks.)
    """
    build: _Build | None = context.shared.get(_BUILD)
    if build is None:
        build = _Build()
        context.shared[_BUILD] = build
        made = build
        context.when_opened(lambda: _finish(made, context))
    assert payload.connection is not None
    token = payload.connection.holder
    if token not in build.taken:
        kept = build.taken[token] = tcp_holder.take(token)
        if kept is not None:
            context.stack.callback(kept.close)
    held = build.taken[token]
    if held is not None and payload.ino in held.fds:
        fd, reuse, program = held.fds[payload.ino]
        own = os.dup(fd)
        context.when_opened(lambda: tcp_repair.release(own, program, reuse))
        return own
    fd = sockets.make_socket(payload.family, payload.type, payload.protocol)
    build.made.append((fd, payload))
    return fd


def finish_connections(context: RestoreContext) -> None:
    """The restored tree stands: the holder may go. Called last, when nothing can fail any more."""
    build: _Build | None = context.shared.get(_BUILD)
    for kept in build.taken.values() if build else ():
        if kept is not None:
            kept.done()


def _finish(build: _Build, context: RestoreContext) -> None:
    waiting = tcpbacklog.connect_waiting(context, {p.ino: (fd, p) for fd, p in build.made})
    build.made = [(fd, p) for fd, p in build.made if p.ino not in waiting]
    ends = {(endpoint(p.name), endpoint(p.peer)): p for _fd, p in build.made}
    connections = {fd: _connection(p, ends.get((endpoint(p.peer), endpoint(p.name)))) for fd, p in build.made}
    try:
        for fd, payload in build.made:
            apply_options(fd, payload.options, final=False)
            tcp_repair.rebuild(fd, connections[fd], payload.name, payload.peer)
        for fd, _payload in build.made:
            tcp_repair.finish(fd, connections[fd])
        for fd, payload in build.made:
            _urgent(payload, connections[fd])
        for fd, payload in build.made:
            if payload.state in FIN_SENT:
                sockets.shutdown(fd, u.SHUT_WR)
            if payload.shutdown & u.RCV_SHUTDOWN and payload.state not in FIN_RECEIVED:
                sockets.shutdown(fd, u.SHUT_RD)
            if payload.state in FIN_RECEIVED and (endpoint(payload.peer), endpoint(payload.name)) not in ends:
                c = connections[fd]
                # The peer's FIN will not come again: it was acknowledged.
                datagrams.inject_fin(payload.peer, payload.name, c.receive_seq, c.send_seq - len(c.send_queue))
            apply_options(fd, payload.options, final=True, subject="TCP connection")
    except KernelError as error:
        raise failed("a TCP connection", error) from error


def _urgent(payload: InetPayload, c: tcp_repair.Connection) -> None:
    """The peer sends the urgent byte, and all behind it, once more: no other way makes it urgent."""
    if c.urgent < 0:
        return
    rest = c.receive_queue[c.urgent :]
    for at in range(0, len(rest), _SEGMENT):
        data = rest[at : at + _SEGMENT]
        seq, ack = c.receive_seq - len(rest) + at, c.send_seq - len(c.send_queue)
        datagrams.inject_segment(payload.peer, payload.name, seq, ack, data, urgent=not at)


def _connection(payload: InetPayload, peer: InetPayload | None) -> tcp_repair.Connection:
    """What to make. A held socket still sends by its timers, so more may have been sent than it said when read.

    An acknowledgement of what counts as unsent would be ignored for ever. What the other end of the tree has not
    received is unsent for certain; with a peer outside all counts as sent, and is sent again when not acknowledged.
    """
    c = payload.connection
    assert c is not None
    unsent = 0
    if peer is not None and peer.connection is not None:
        missing = c.send_seq - peer.connection.receive_seq & 0xFFFFFFFF
        unsent = min(c.unsent, missing)
    return tcp_repair.Connection(
        c.receive_seq, c.send_seq, c.receive_queue, c.send_queue, unsent, c.mss_clamp, c.send_wscale,
        c.receive_wscale, c.wscale_ok, c.sack_ok, c.timestamps, c.timestamp, c.window, c.urgent,
    )  # fmt: skip
