"""TCP sockets between two connections: one that waits for the answer to its SYN, and one whose connection has ended."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import struct

from ckpt.errors import KernelError, RestoreError
from ckpt.kernel import datagrams, sock_diag, sockets, tcp_repair
from ckpt.kernel import uapi_socket as u
from ckpt.records.sockets import InetPayload, QueuedMessage
from ckpt.state.context import RestoreContext
from ckpt.state.files import inetbind
from ckpt.state.files.inetnames import address_of, show
from ckpt.state.files.queues import peek_stream
from ckpt.state.files.sockopts import apply_options
from ckpt.state.files.tcpbacklog import connect_within

_SEGMENTS = 136  # offset in struct tcp_info of tcpi_segs_out and tcpi_segs_in
_SEQ = 1 << 20  # any number
_PATIENCE = 1000  # milliseconds, for what this host does with itself


def syn_peer(family: int, ino: int) -> bytes:
    """Whom a socket in SYN_SENT connects to; getpeername does not tell yet. b"" when it is not known."""
    entry = sock_diag.inet_sockets(family, u.IPPROTO_TCP).get(ino)
    return address_of(family, entry.remote) if entry is not None else b""


def has_ended(fd: int) -> bool:
    """Whether a socket in state CLOSE was connected once: its receiving side is shut then."""
    poller = select.poll()
    poller.register(fd, select.POLLRDHUP)
    return any(event & select.POLLRDHUP for _fd, event in poller.poll(0))


def collect_ended(fd: int) -> tuple[int, tuple[QueuedMessage, ...]]:
    """The error that was not fetched (SO_ERROR would fetch it), and what was not read."""
    error = 0
    if sockets.failed(fd):
        info = sockets.getsockopt(fd, u.SOL_TCP, u.TCP_INFO, _SEGMENTS + 8)
        said, heard = struct.unpack_from("<II", info, _SEGMENTS)
        # Whoever heard one segment only was refused; but for one that `_reset` made, which has said nothing.
        error = errno.ECONNREFUSED if said and heard == 1 else errno.ECONNRESET
    messages = peek_stream(fd, sockets.ioctl_int(fd, u.SIOCINQ))
    return error, tuple(QueuedMessage(message.data) for message in messages)


def restore(payload: InetPayload, context: RestoreContext) -> int:
    """A fresh socket that gets there again when every listener of the image stands, for it takes a port of theirs."""
    fd = sockets.make_socket(payload.family, payload.type, payload.protocol)

    def build() -> None:
        try:
            apply_options(fd, payload.options, final=False)
            sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_REUSEADDR, 1)
            if payload.ended:
                _end(fd, payload)
            else:
                inetbind.bind_client(fd, payload.name)
                connect_within(fd, payload.peer, 0)
            apply_options(fd, payload.options, final=True, subject="TCP socket")
        except KernelError as error:
            what = f"TCP socket {show(payload.name)}"
            hint = None if tcp_repair.allowed() else "restore as root, or with CAP_NET_ADMIN"
            raise RestoreError(f"{what} cannot be brought to its state again: {error.message}", hint=hint) from error

    context.when_opened(build)
    return fd


def _end(fd: int, payload: InetPayload) -> None:
    """Let it go through the end of a connection: a refusal, or a reset by a peer that never was."""
    if payload.error == errno.ECONNREFUSED:
        _refused(fd, payload)
    elif payload.error or payload.queue or _has_address(payload):
        _reset(fd, payload)
    else:
        with contextlib.suppress(KernelError):  # ENOTCONN, and shut
            sockets.shutdown(fd, u.SHUT_RDWR)
    if not payload.error:
        sockets.getsockopt_int(fd, u.SOL_SOCKET, u.SO_ERROR)


def _has_address(payload: InetPayload) -> bool:
    """Whether a connection could have been here once: another host may lack its address, another user the right."""
    probe = sockets.make_socket(payload.family, payload.type, payload.protocol)
    try:
        sockets.bind(probe, payload.name[:2] + b"\0\0" + payload.name[4:])
        return True
    except KernelError:
        return False
    finally:
        os.close(probe)


def _reset(fd: int, payload: InetPayload) -> None:
    data = b"".join(message.data for message in payload.queue)
    if not tcp_repair.allowed():
        _reset_by_peer(fd, payload, data)
        return
    window = struct.pack("<5I", _SEQ, 1 << 16, 1 << 16, 1 << 16, _SEQ)
    made = tcp_repair.Connection(_SEQ, _SEQ, data, b"", 0, 1460, 0, 0, False, False, False, 0, window)
    remote = payload.name[:2] + b"\0\1" + payload.name[4:]  # port 1 of the same host
    tcp_repair.rebuild(fd, made, payload.name, remote)
    tcp_repair.leave(fd, 1)
    datagrams.inject_reset(remote, payload.name, _SEQ, _SEQ)
    if sockets.getsockopt(fd, u.SOL_TCP, u.TCP_INFO, 1)[0] != u.TCP_CLOSE:
        raise KernelError("the end of a TCP connection could not be told to its socket")


def _reset_by_peer(fd: int, payload: InetPayload, data: bytes) -> None:
    """The same by a connection to a listener of ckpt's own, which resets it: any user may do so."""
    listener = sockets.make_socket(payload.family, payload.type, payload.protocol)
    peer = -1
    try:
        sockets.bind(listener, payload.name[:2] + b"\0\0" + payload.name[4:])
        sockets.listen(listener, 1)
        inetbind.bind_client(fd, payload.name)
        connect_within(fd, sockets.getsockname(listener), _PATIENCE)
        peer = sockets.accept(listener)
        room = select.poll()
        room.register(peer, select.POLLOUT)
        while data and room.poll(_PATIENCE):
            data = data[sockets.send(peer, data) :]
        sockets.setsockopt(peer, u.SOL_SOCKET, u.SO_LINGER, struct.pack("<ii", 1, 0))
    finally:
        for one in (listener, peer):
            if one >= 0:
                os.close(one)
    poller = select.poll()
    poller.register(fd, select.POLLHUP)
    if data or not poller.poll(_PATIENCE):
        raise KernelError("the end of a TCP connection could not be told to its socket")


def _refused(fd: int, payload: InetPayload) -> None:
    deaf = sockets.make_socket(payload.family, payload.type, payload.protocol)  # bound, but not listening
    try:
        sockets.bind(deaf, payload.name[:2] + b"\0\0" + payload.name[4:])
        inetbind.bind_client(fd, payload.name)
        connect_within(fd, sockets.getsockname(deaf), 0)
    finally:
        os.close(deaf)
