"""Connected TCP sockets through TCP_REPAIR: holding one still, reading it, and making one like it.

While a socket is held, a socket filter drops what arrives (nothing is acknowledged, nothing is reset) and repair mode
keeps the kernel from telling the peer when the socket is closed.
"""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass
from functools import cache

from ckpt.errors import KernelError
from ckpt.kernel import sockets
from ckpt.kernel import uapi_socket as u

_DROP = struct.pack("<HBBI", 0x06, 0, 0, 0)  # BPF_RET | BPF_K with 0 bytes: no packet passes
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Connection:
    """What TCP_REPAIR tells of a held socket; the sequence numbers count the queues, not a FIN."""

    receive_seq: int
    send_seq: int
    receive_queue: bytes
    send_queue: bytes
    unsent: int
    mss_clamp: int
    send_wscale: int
    receive_wscale: int
    wscale_ok: bool
    sack_ok: bool
    timestamps: bool
    timestamp: int
    window: bytes


@cache
def allowed() -> bool:
    """Whether this process may put sockets of its network namespace into repair mode."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as own:
        try:
            sockets.setsockopt(own.fileno(), u.SOL_TCP, u.TCP_REPAIR, u.TCP_REPAIR_ON)
            sockets.setsockopt(own.fileno(), u.SOL_TCP, u.TCP_REPAIR, u.TCP_REPAIR_OFF)
        except KernelError:
            return False
    return True


def hold(fd: int) -> None:
    """Drop what arrives, and enter repair mode. `release` undoes it."""
    sockets.attach_filter(fd, _DROP)
    sockets.setsockopt(fd, u.SOL_TCP, u.TCP_REPAIR, u.TCP_REPAIR_ON)


def release(fd: int, program: bytes, reuse: int) -> None:
    """Let a held socket go on, without a packet; `program` and `reuse` are its own filter and SO_REUSEADDR."""
    leave(fd, reuse)
    if program:
        sockets.attach_filter(fd, program)
    else:
        sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_DETACH_FILTER, 0)


def leave(fd: int, reuse: int) -> None:
    """Leave repair mode without a packet."""
    sockets.setsockopt(fd, u.SOL_TCP, u.TCP_REPAIR, u.TCP_REPAIR_OFF_NO_WP)
    sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_REUSEADDR, reuse)  # repair mode has its own value there


def read(fd: int, fin_sent: bool, fin_received: bool) -> Connection:
    """Read a held socket; nothing is consumed."""
    info = sockets.getsockopt(fd, u.SOL_TCP, u.TCP_INFO, 104)
    options, scales = info[5], info[6]
    try:
        window = sockets.getsockopt(fd, u.SOL_TCP, u.TCP_REPAIR_WINDOW, 20)
        # struct tcp_repair_window: snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup. The last may count a FIN.
        if fin_received:
            wup = struct.unpack_from("<I", window, 16)[0]
            window = window[:16] + struct.pack("<I", wup - 1 & 0xFFFFFFFF)
        receive_seq, received = _received(fd)
        outstanding = sockets.ioctl_int(fd, u.SIOCOUTQ)
        unsent = sockets.ioctl_int(fd, u.SIOCOUTQNSD)
        if fin_sent and outstanding:
            # A FIN that is not acknowledged yet counts as a byte of the queue, and as unsent if it is.
            send_seq, queued = _queue(fd, u.TCP_SEND_QUEUE, -1)
            unsent = min(unsent, len(queued))
        else:
            send_seq, queued = _queue(fd, u.TCP_SEND_QUEUE, outstanding)
    finally:
        sockets.setsockopt(fd, u.SOL_TCP, u.TCP_REPAIR_QUEUE, u.TCP_NO_QUEUE)
    return Connection(
        receive_seq=receive_seq - fin_received & 0xFFFFFFFF,
        send_seq=send_seq - fin_sent & 0xFFFFFFFF,
        receive_queue=received,
        send_queue=queued,
        unsent=unsent,
        mss_clamp=sockets.getsockopt_int(fd, u.SOL_TCP, u.TCP_MAXSEG),
        send_wscale=scales & 15,
        receive_wscale=scales >> 4,
        wscale_ok=bool(options & u.TCPI_OPT_WSCALE),
        sack_ok=bool(options & u.TCPI_OPT_SACK),
        timestamps=bool(options & u.TCPI_OPT_TIMESTAMPS),
        timestamp=sockets.getsockopt_int(fd, u.SOL_TCP, u.TCP_TIMESTAMP) & 0xFFFFFFFF,
        window=window,
    )


def _received(fd: int) -> tuple[int, bytes]:
    """The receive queue; ENODATA when an urgent byte is in it, which a read of any kind stops at."""
    inline = sockets.getsockopt_int(fd, u.SOL_SOCKET, u.SO_OOBINLINE)
    urgent = sockets.peek_urgent(fd)
    sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_OOBINLINE, 1)  # or SIOCINQ would not count what is behind it
    try:
        seq, data = _queue(fd, u.TCP_RECV_QUEUE, sockets.ioctl_int(fd, u.SIOCINQ))
    finally:
        sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_OOBINLINE, inline)
    if urgent:
        raise KernelError("a TCP connection has an urgent byte that was not read", errno=errno.ENODATA)
    return seq, data


def _queue(fd: int, queue: int, size: int) -> tuple[int, bytes]:
    """Sequence number and content of one queue; `size` -1 takes what there is."""
    sockets.setsockopt(fd, u.SOL_TCP, u.TCP_REPAIR_QUEUE, queue)
    seq = sockets.getsockopt_int(fd, u.SOL_TCP, u.TCP_QUEUE_SEQ) & 0xFFFFFFFF
    if not size:
        return seq, b""
    room = size if size > 0 else sockets.ioctl_int(fd, u.SIOCOUTQ)
    message = sockets.receive(fd, room, u.MSG_PEEK)
    data = message.data if message else b""
    if size > 0 and len(data) != size:
        what = f"only {len(data)} of {size} queued bytes of a TCP connection could be read"
        raise KernelError(what, errno=errno.ENODATA)
    return seq, data


def rebuild(fd: int, connection: Connection, local: bytes, remote: bytes) -> None:
    """Make a fresh socket that connection, in repair mode still; nothing is sent before `finish`."""
    c = connection
    sockets.setsockopt(fd, u.SOL_TCP, u.TCP_REPAIR, u.TCP_REPAIR_ON)
    _set_seq(fd, u.TCP_SEND_QUEUE, c.send_seq - len(c.send_queue))
    _set_seq(fd, u.TCP_RECV_QUEUE, c.receive_seq - len(c.receive_queue))
    sockets.bind(fd, local)
    sockets.connect(fd, remote)
    options = [(u.TCPOPT_MSS, c.mss_clamp)]
    if c.wscale_ok:
        options.append((u.TCPOPT_WINDOW, c.send_wscale | c.receive_wscale << 16))
    if c.sack_ok:
        options.append((u.TCPOPT_SACK_PERM, 0))
    if c.timestamps:
        options.append((u.TCPOPT_TIMESTAMP, 0))
    packed = b"".join(struct.pack("<II", code, value) for code, value in options)
    sockets.setsockopt(fd, u.SOL_TCP, u.TCP_REPAIR_OPTIONS, packed)
    if c.timestamps:
        sockets.setsockopt(fd, u.SOL_TCP, u.TCP_TIMESTAMP, struct.pack("<I", c.timestamp))
    _fill(fd, u.TCP_RECV_QUEUE, c.receive_queue)
    sent = len(c.send_queue) - c.unsent
    _fill(fd, u.TCP_SEND_QUEUE, c.send_queue[:sent])
    sockets.setsockopt(fd, u.SOL_TCP, u.TCP_REPAIR_WINDOW, c.window)


def finish(fd: int, connection: Connection) -> None:
    """Leave repair mode, which tells the peer our window, and send what was never sent."""
    sockets.setsockopt(fd, u.SOL_TCP, u.TCP_REPAIR, u.TCP_REPAIR_OFF)
    unsent = connection.send_queue[len(connection.send_queue) - connection.unsent :]
    while unsent:
        try:
            unsent = unsent[sockets.send(fd, unsent) :]
        except KernelError as error:
            if error.errno == errno.EAGAIN:
                raise KernelError(f"{len(unsent)} bytes do not fit into the send buffer", errno=errno.EAGAIN) from error
            raise


def _set_seq(fd: int, queue: int, seq: int) -> None:
    sockets.setsockopt(fd, u.SOL_TCP, u.TCP_REPAIR_QUEUE, queue)
    sockets.setsockopt(fd, u.SOL_TCP, u.TCP_QUEUE_SEQ, struct.pack("<I", seq & 0xFFFFFFFF))


def _fill(fd: int, queue: int, data: bytes) -> None:
    sockets.setsockopt(fd, u.SOL_TCP, u.TCP_REPAIR_QUEUE, queue)
    offset = 0
    while offset < len(data):
        # A send into the receive queue makes one buffer of all it is given: large ones may not be had.
        offset += sockets.send(fd, data[offset : offset + _CHUNK])
