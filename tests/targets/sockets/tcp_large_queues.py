"""Megabytes queued in both directions of IPv4, IPv6 and mapped connections."""

import socket

from target_api import checkpoint, pattern, run


def fill(sock, seed):
    sock.setblocking(False)
    data, sent = pattern(seed, 6_000_000), 0
    try:
        while sent < len(data):
            sent += sock.send(data[sent:])
    except BlockingIOError:
        pass
    sock.setblocking(True)
    return data[:sent]


def main():
    made = []
    for family, host, target in (
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET6, "::1", "::1"),
        (socket.AF_INET6, "::", "127.0.0.1"),
    ):
        server = socket.create_server((host, 0), family=family, dualstack_ipv6=host == "::")
        client = socket.create_connection((target, server.getsockname()[1]))
        connection, _ = server.accept()
        server.close()
        made.append((client, connection, fill(client, 1), fill(connection, 2)))
    names = [(one.getsockname(), two.getpeername()) for one, two, _, _ in made]
    if checkpoint():
        made[0][0].recv(1)
    assert [(one.getsockname(), two.getpeername()) for one, two, _, _ in made] == names
    for one, two, first, second in made:
        for sock, expected in ((two, first), (one, second)):
            sock.settimeout(30)
            data = bytearray()
            while len(data) < len(expected):
                data += sock.recv(1 << 20)
            assert data == expected
        one.sendall(b"end")
        two.shutdown(socket.SHUT_WR)
        assert two.recv(10) == b"end" and one.recv(10) == b""


run(main)
