"""Options and figures of established connections, and that they work on at full size."""

import socket
import struct

from target_api import checkpoint, pattern, run

S, T = socket.SOL_SOCKET, socket.IPPROTO_TCP
OPTIONS = [
    (S, socket.SO_KEEPALIVE, 1),
    (S, socket.SO_OOBINLINE, 1),
    (S, socket.SO_PRIORITY, 3),
    (S, socket.SO_RCVLOWAT, 2),
    (S, socket.SO_REUSEADDR, 1),
    (S, socket.SO_SNDBUF, 70000),
    (S, socket.SO_RCVBUF, 90000),
    (T, socket.TCP_NODELAY, 1),
    (T, socket.TCP_KEEPIDLE, 55),
    (T, socket.TCP_KEEPINTVL, 9),
    (T, socket.TCP_KEEPCNT, 4),
    (T, socket.TCP_USER_TIMEOUT, 4321),
    (T, socket.TCP_SYNCNT, 3),
    (T, socket.TCP_LINGER2, 20),
    (T, 25, 30000),  # TCP_NOTSENT_LOWAT
    (T, 36, 1),  # TCP_INQ
    (socket.IPPROTO_IP, socket.IP_TOS, 8),
    (socket.IPPROTO_IP, socket.IP_TTL, 44),
    (socket.IPPROTO_IP, 10, 2),  # IP_MTU_DISCOVER
]


def main():
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    connection, _ = server.accept()
    client.setsockopt(T, socket.TCP_CONGESTION, b"reno")
    corked = socket.create_connection(server.getsockname())
    corked.setsockopt(T, socket.TCP_CORK, 1)
    uncorked, _ = server.accept()
    corked.send(b"held back")
    for level, name, value in OPTIONS:
        client.setsockopt(level, name, value)
    client.setsockopt(S, socket.SO_LINGER, struct.pack("ii", 1, 4))

    def info(sock):
        raw = sock.getsockopt(T, socket.TCP_INFO, 104)
        return raw[0], raw[5], raw[6]  # state, options, scales

    def view():
        values = [client.getsockopt(level, name) for level, name, _ in OPTIONS]
        values += [client.getsockopt(T, socket.TCP_CONGESTION, 16), client.getsockopt(S, socket.SO_LINGER, 8)]
        return [*values, info(client), info(connection), corked.getsockopt(T, socket.TCP_CORK)]

    before = view()
    uncorked.setblocking(False)
    if checkpoint():
        client.setsockopt(T, socket.TCP_NODELAY, 0)
    after = view()
    assert after == before, (before, after)
    uncorked.settimeout(20)
    corked.setsockopt(T, socket.TCP_CORK, 0)
    assert uncorked.recv(20) == b"held back"
    for _ in range(20):
        connection.sendall(pattern(2, 30000))
        data = b""
        while len(data) < 30000:
            data += client.recv(65536)
        assert data == pattern(2, 30000)
    client.sendall(b"last")
    client.close()
    assert connection.recv(10) == b"last"


run(main)
