"""Options of TCP sockets."""

import socket
import struct

from target_api import checkpoint, run

S, T = socket.SOL_SOCKET, socket.IPPROTO_TCP
OPTIONS = [
    (S, socket.SO_KEEPALIVE, 1),
    (S, socket.SO_REUSEADDR, 1),
    (S, socket.SO_OOBINLINE, 1),
    (S, socket.SO_PRIORITY, 4),
    (S, socket.SO_RCVLOWAT, 3),
    (T, socket.TCP_NODELAY, 1),
    (T, socket.TCP_KEEPIDLE, 77),
    (T, socket.TCP_KEEPINTVL, 7),
    (T, socket.TCP_KEEPCNT, 5),
    (T, socket.TCP_USER_TIMEOUT, 12345),
    (socket.IPPROTO_IP, socket.IP_TOS, 16),
    (socket.IPPROTO_IP, socket.IP_TTL, 33),
]


def main():
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    connection, _ = server.accept()
    sockets = (server, client)
    for one in sockets:
        for level, name, value in OPTIONS:
            one.setsockopt(level, name, value)
        one.setsockopt(S, socket.SO_LINGER, struct.pack("ii", 1, 9))
        one.setsockopt(S, socket.SO_RCVBUF, 40000)
        one.setsockopt(S, socket.SO_SNDBUF, 50000)
        one.setsockopt(S, socket.SO_RCVTIMEO, struct.pack("qq", 5, 0))
    read = [*OPTIONS, (S, socket.SO_RCVBUF, 0), (S, socket.SO_SNDBUF, 0), (S, socket.SO_DOMAIN, 0)]

    def view():
        return [[one.getsockopt(level, name) for level, name, _ in read] for one in sockets]

    before = view()
    if checkpoint():
        client.setsockopt(T, socket.TCP_KEEPCNT, 6)
    assert view() == before, (before, view())
    assert struct.unpack("ii", client.getsockopt(S, socket.SO_LINGER, 8)) == (1, 9)
    assert struct.unpack("qq", client.getsockopt(S, socket.SO_RCVTIMEO, 16)) == (5, 0)
    connection.send(b"abc")
    assert client.recv(3) == b"abc"


run(main)
