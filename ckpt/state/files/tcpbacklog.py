"""TCP connections that wait to be accepted: they have no descriptor, but their clients are known.

A restore lets each client connect to its listener again, in the old order, and send again what it had sent. That is
possible only if the client is in the tree, or was on this host and has ended.
"""

from __future__ import annotations

import os
import select
from dataclasses import dataclass

from ckpt.errors import KernelError, RestoreError
from ckpt.kernel import accept_queue, sock_diag, sockets
from ckpt.kernel import uapi_socket as u
from ckpt.records.sockets import InetPayload, TcpConnection, TcpWaiting
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files import inetbind
from ckpt.state.files.base import FileView
from ckpt.state.files.inetnames import MAPPED, address_of, endpoint, show
from ckpt.state.files.sockopts import apply_options

SUPPORT = Support(
    "sockets",
    "connections not accepted yet",
    "TCP and Unix, from clients in the tree or ended ones, in their order; "
    "what they have sent, where this user may read the kernel's memory (CAP_BPF, CAP_PERFMON)",
    lost="TCP connections that were reset before anybody accepted them",
)

_LISTENERS = "tcp:listeners"
FIN_SENT = frozenset({u.TCP_FIN_WAIT1, u.TCP_FIN_WAIT2, u.TCP_CLOSING, u.TCP_LAST_ACK, u.TCP_TIME_WAIT})
_HINT = "let the task accept them, then dump again"
_PATIENCE = 5000  # milliseconds


@dataclass(frozen=True, slots=True)
class Client:
    """A connected socket of the tree."""

    ino: int
    state: int
    connection: TcpConnection


@dataclass
class _Listener:
    view: FileView
    name: bytes  # as `endpoint` gives it


def note_listener(context: CollectContext, view: FileView, name: bytes) -> None:
    """A listener with connections that wait, or may do so unseen."""
    context.shared.setdefault(_LISTENERS, {})[view.stat.st_ino] = _Listener(view, endpoint(name))


def collect_waiting(context: CollectContext, clients: dict[tuple[bytes, bytes], Client]) -> set[int]:
    """Record what waits; gives the inodes of the clients in the tree. `clients`: by (local, remote)."""
    listeners: dict[int, _Listener] = context.shared.get(_LISTENERS, {})
    found: set[int] = set()
    if not listeners:
        return found
    embryos = sock_diag.embryos()
    owned = {entry.local for family in (u.AF_INET, u.AF_INET6) for entry in _sockets(family)}
    for ino, listener in listeners.items():
        view = listener.view
        with view.stolen(context) as fd:
            for one in [*_in_order(context, listener, fd, embryos, clients), *_deferred(listener, fd, clients)]:
                if one.local[:2] == b"\0\0":  # it was reset, and has no port any more
                    continue
                client = clients.get((one.remote, one.local))
                if client is None and (one.remote in owned or not _is_local(one.remote)):
                    if context.options.tcp_close:
                        continue
                    reason = "has a connection from outside the tree that waits to be accepted"
                    context.refuse(view.pid, view.subject, reason, f"{_HINT}; --tcp-close drops them", passing=True)
                data, ended = one.data, one.ended
                if client is not None:
                    found.add(client.ino)
                    data += _not_received(client.connection, one)
                    ended = ended or client.state in FIN_SENT
                family = u.AF_INET if one.remote[2:14] == MAPPED else u.AF_INET6
                local, remote = address_of(family, one.local), address_of(family, one.remote)
                number = client.ino if client is not None else 0
                context.records.append(TcpWaiting(ino, number, family, local, remote, data, ended))
    return found


def _in_order(
    context: CollectContext,
    listener: _Listener,
    fd: int,
    embryos: list[sock_diag.InetSocket],
    clients: dict[tuple[bytes, bytes], Client],
) -> list[accept_queue.Waiting]:
    """The connections of one listener, the next to be accepted first."""
    mine = [entry for entry in embryos if entry.local[:2] == listener.name[:2] and _covers(listener.name, entry)]
    try:
        return accept_queue.tcp(fd)
    except KernelError as error:
        # A FIN counts as a byte.
        if any(entry.queued > (entry.state == u.TCP_CLOSE_WAIT) for entry in mine):
            reason = "has connections that wait to be accepted, with data that cannot be read from outside"
            context.refuse(listener.view.pid, listener.view.subject, f"{reason} ({error.message})", _HINT, passing=True)
            return []
        # Their order is unknown; that of the clients' births is likely.
        born = {ends: client.ino for ends, client in clients.items()}
        mine.sort(key=lambda entry: born.get((entry.remote, entry.local), 0))
        return [
            accept_queue.Waiting(entry.local, entry.remote, b"", entry.state == u.TCP_CLOSE_WAIT, 0) for entry in mine
        ]


def _deferred(listener: _Listener, fd: int, clients: dict[tuple[bytes, bytes], Client]) -> list[accept_queue.Waiting]:
    """The clients of the tree whose connections the listener leaves alone until they send something."""
    if not sockets.getsockopt_int(fd, u.SOL_TCP, u.TCP_DEFER_ACCEPT):
        return []
    return [
        accept_queue.Waiting(entry.local, entry.remote, b"", False, 0)
        for entry in sock_diag.requests()
        if entry.local[:2] == listener.name[:2] and _covers(listener.name, entry)
        if (entry.remote, entry.local) in clients
    ]


def _not_received(connection: TcpConnection, waiting: accept_queue.Waiting) -> bytes:
    """What the client has sent and the other side has not got."""
    if not waiting.received:
        return connection.send_queue  # nothing was received
    missing = connection.send_seq - (waiting.received - waiting.ended) & 0xFFFFFFFF
    return connection.send_queue[-missing:] if 0 < missing <= len(connection.send_queue) else b""


def _covers(name: bytes, entry: sock_diag.InetSocket) -> bool:
    return name[2:] in (entry.local[2:], b"\0" * 16, MAPPED + b"\0" * 4)


def _sockets(family: int) -> list[sock_diag.InetSocket]:
    try:
        return list(sock_diag.inet_sockets(family, u.IPPROTO_TCP).values())
    except KernelError:
        return []


def _is_local(end: bytes) -> bool:
    """Whether the address is one of this host's: then a socket can be bound to it."""
    family = u.AF_INET if end[2:14] == MAPPED else u.AF_INET6
    fd = sockets.make_socket(family, u.SOCK_DGRAM)
    try:
        sockets.bind(fd, address_of(family, b"\0\0" + end[2:]))
    except KernelError:
        return False
    finally:
        os.close(fd)
    return True


# ---------------------------------------------------------------- restore


def connect_waiting(context: RestoreContext, made: dict[int, tuple[int, InetPayload]]) -> set[int]:
    """Let the clients connect again; gives their inodes. `made`: inode -> fresh socket and payload."""
    done: set[int] = set()
    for waiting in context.view.records("tcp-waiting"):
        fd, payload = made.get(waiting.client, (-1, None))
        try:
            if payload is None:
                _ended_client(waiting)
            else:
                apply_options(fd, payload.options, final=False)
                _connect(fd, waiting, payload.name, payload.peer)
                apply_options(fd, payload.options, final=True, subject="TCP connection")
                done.add(waiting.client)
        except KernelError as error:
            ends = f"from {show(waiting.remote)} that waits to be accepted at {show(waiting.local)}"
            raise RestoreError(f"the TCP connection {ends}: {error.message}") from error
    return done


def _ended_client(waiting: TcpWaiting) -> None:
    fd = sockets.make_socket(waiting.family, u.SOCK_STREAM, u.IPPROTO_TCP)
    try:
        _connect(fd, waiting, waiting.remote, waiting.local)
    finally:
        os.close(fd)


def _connect(fd: int, waiting: TcpWaiting, local: bytes, remote: bytes) -> None:
    inetbind.bind_client(fd, local)
    connect_within(fd, remote, _PATIENCE)
    left = waiting.data
    if left:
        sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_SNDBUFFORCE, max(2 * len(left), 1 << 16))
    while left:
        left = left[sockets.send(fd, left) :]
    if waiting.ended:
        sockets.shutdown(fd, u.SHUT_WR)


def connect_within(fd: int, remote: bytes, patience: int) -> None:
    """Connect, waiting at most `patience` milliseconds for an answer. KernelError when there is none, or a bad one."""
    os.set_blocking(fd, False)
    try:
        sockets.start_connect(fd, remote)
        poller = select.poll()
        poller.register(fd, select.POLLOUT)
        if patience and not poller.poll(patience):
            raise KernelError("nobody answers the connect")
        if patience and (failure := sockets.getsockopt_int(fd, u.SOL_SOCKET, u.SO_ERROR)):
            raise KernelError(f"connect: {os.strerror(failure)}", errno=failure)
    finally:
        os.set_blocking(fd, True)
