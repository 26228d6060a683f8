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
    urgent: int = -1  # where in the receive queue the urgent byte is that was not read; -1 for none


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
        receive_seq, received, urgent = _received(fd)
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
        urgent=urgent,
    )


def _window_for(window: bytes, receive_seq: int) -> bytes:
    """The same right edge of the receive window for a queue that still ends at `receive_seq`."""
    *before, size, wup = struct.unpack("<5I", window)
    beyond = wup - receive_seq & 0xFFFFFFFF
    if not 0 < beyond < 1 << 31:
        return window
    return struct.pack("<5I", *before, size + beyond, receive_seq & 0xFFFFFFFF)


def _received(fd: int) -> tuple[int, bytes, int]:
    """The receive queue, and where in it the urgent byte is that was not read; -1 for none.

    ENODATA when there is one and this kernel cannot peek beyond it (SO_PEEK_OFF of TCP, Linux 6.9).
    """
    inline = sockets.getsockopt_int(fd, u.SOL_SOCKET, u.SO_OOBINLINE)
    offset = _peek_offset(fd)
    sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_OOBINLINE, 0)  # or it could not be asked for
    waits = bool(sockets.peek_urgent(fd))
    sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_OOBINLINE, 1)  # or SIOCINQ would not count what is behind it
    try:
        sockets.setsockopt(fd, u.SOL_TCP, u.TCP_REPAIR_QUEUE, u.TCP_RECV_QUEUE)
        seq = sockets.getsockopt_int(fd, u.SOL_TCP, u.TCP_QUEUE_SEQ) & 0xFFFFFFFF
        if offset is not None:
            sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_PEEK_OFF, 0)
        parts = _parts(fd, sockets.ioctl_int(fd, u.SIOCINQ), offset is not None)
        mark = 0 if sockets.ioctl_int(fd, u.SIOCATMARK) else len(parts[0]) if len(parts) > 1 else -1
    finally:
        sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_OOBINLINE, inline)
        if offset is not None:
            sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_PEEK_OFF, offset)
    data = b"".join(parts)
    if mark >= 0 and not waits:  # read out of band already: a read of the stream passes over it
        data = data[:mark] + data[mark + 1 :]
    return seq, data, mark if waits else -1


def _peek_offset(fd: int) -> int | None:
    """SO_PEEK_OFF; None on a kernel that has none for TCP."""
    try:
        return sockets.getsockopt_int(fd, u.SOL_SOCKET, u.SO_PEEK_OFF)
    except KernelError:
        return None


def _parts(fd: int, size: int, further: bool) -> list[bytes]:
    """What peeks give, each of which stops before the urgent byte; `further`: one goes on where the last one ended."""
    parts: list[bytes] = []
    left = size
    while left:
        message = sockets.receive(fd, left, u.MSG_PEEK) if further or not parts else None
        if message is None or not message.data:
            what = f"only {size - left} of {size} queued bytes of a TCP connection could be read"
            raise KernelError(what, errno=errno.ENODATA)
        parts.append(message.data)
        left -= len(message.data)
    return parts


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
    """Make a fresh socket that connection, in repair mode still; nothing is sent before `finish`.

    Its send buffer may be larger afterwards than it was: for the caller to put right.
    """
    c = connection
    sockets.setsockopt(fd, u.SOL_TCP, u.TCP_REPAIR, u.TCP_REPAIR_ON)
    _set_seq(fd, u.TCP_SEND_QUEUE, c.send_seq - len(c.send_queue))
    _set_seq(fd, u.TCP_RECV_QUEUE, c.receive_seq - len(c.receive_queue))
    queue = c.receive_queue if c.urgent < 0 else c.receive_queue[: c.urgent]
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
    _fill(fd, u.TCP_RECV_QUEUE, queue)
    sent = len(c.send_queue) - c.unsent
    _make_room(fd, len(c.send_queue))
    _fill(fd, u.TCP_SEND_QUEUE, c.send_queue[:sent])
    missing = len(c.receive_queue) - len(queue)
    sockets.setsockopt(fd, u.SOL_TCP, u.TCP_REPAIR_WINDOW, _window_for(c.window, c.receive_seq - missing))
    # The size of its segments was computed at the connect, without the peer's TCPOPT_MSS. New IP options, also the old
    # ones, have it computed again.
    sockets.setsockopt(fd, u.SOL_IP, u.IP_OPTIONS, sockets.getsockopt(fd, u.SOL_IP, u.IP_OPTIONS, 40))


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


def _make_room(fd: int, size: int) -> None:
    """What one buffer holds depends on how the data came into it: the smaller the pieces, the less."""
    need = 8 * size + _CHUNK
    if size and sockets.getsockopt_int(fd, u.SOL_SOCKET, u.SO_SNDBUF) < need:
        sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_SNDBUFFORCE, min(need // 2, 0x3FFFFFFF))


def _set_seq(fd: int, queue: int, seq: int) -> None:
    sockets.setsockopt(fd, u.SOL_TCP, u.TCP_REPAIR_QUEUE, queue)
    sockets.setsockopt(fd, u.SOL_TCP, u.TCP_QUEUE_SEQ, struct.pack("<I", seq & 0xFFFFFFFF))


def _fill(fd: int, queue: int, data: bytes) -> None:
    sockets.setsockopt(fd, u.SOL_TCP, u.TCP_REPAIR_QUEUE, queue)
    offset = 0
    while offset < len(data):
        # A send into the receive queue makes one buffer of all it is given: large ones may not be had.
        offset += sockets.send(fd, data[offset : offset + _CHUNK])
