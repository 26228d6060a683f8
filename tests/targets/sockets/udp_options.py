"""Options of UDP sockets: broadcast, reuse, multicast, buffers."""

import socket

from target_api import checkpoint, run

S, I = socket.SOL_SOCKET, socket.IPPROTO_IP  # noqa: E741
OPTIONS = [
    (S, socket.SO_BROADCAST, 1),
    (S, socket.SO_REUSEPORT, 1),
    (S, socket.SO_RCVBUF, 30000),
    (S, socket.SO_MARK, 0),
    (I, socket.IP_MULTICAST_TTL, 9),
    (I, socket.IP_MULTICAST_LOOP, 0),
    (I, socket.IP_RECVTOS, 1),
    (I, 8, 1),  # IP_PKTINFO
]


def main():
    box = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for level, name, value in OPTIONS:
        box.setsockopt(level, name, value)
    box.bind(("127.0.0.1", 0))
    other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    other.setsockopt(S, socket.SO_REUSEPORT, 1)
    other.bind(box.getsockname())
    view = lambda: [box.getsockopt(level, name) for level, name, _ in OPTIONS]  # noqa: E731
    before = view()
    if checkpoint():
        box.setsockopt(S, socket.SO_BROADCAST, 0)
    assert view() == before
    assert other.getsockname() == box.getsockname()


run(main)
