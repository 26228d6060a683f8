"""Listeners: v6 only, both, reused ports, defer accept, fast open, bound to a device, backlog, in two tasks."""

import errno
import os
import socket

from target_api import checkpoint, child, exit_code, run

S, T = socket.SOL_SOCKET, socket.IPPROTO_TCP


def both_families():
    """A socket of IPv6 alone, and one of IPv4 at the same port, which may be somebody's there."""
    for _ in range(100):
        only6, on4 = socket.socket(socket.AF_INET6), socket.socket()
        only6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        only6.bind(("::", 0))
        try:
            on4.bind(("0.0.0.0", only6.getsockname()[1]))
            return only6, on4
        except OSError as error:
            assert error.errno == errno.EADDRINUSE, error
            only6.close()
            on4.close()
    raise AssertionError("no port is free in both families")


def main():
    only6, on4 = both_families()
    both = socket.socket(socket.AF_INET6)
    both.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    both.bind(("::", 0))
    for made in (only6, both):
        made.listen(9)
    on4.listen(3)
    reused = [socket.socket() for _ in range(3)]
    for made in reused:
        made.setsockopt(S, socket.SO_REUSEPORT, 1)
        made.bind(("127.0.0.1", reused[0].getsockname()[1]))
        made.listen(1)
    special = socket.socket()
    special.setsockopt(S, socket.SO_REUSEADDR, 1)
    special.setsockopt(S, socket.SO_BINDTODEVICE, b"lo\0")
    special.bind(("127.0.0.1", 0))
    special.setsockopt(T, socket.TCP_DEFER_ACCEPT, 5)
    special.setsockopt(T, socket.TCP_FASTOPEN, 16)
    special.setsockopt(T, socket.TCP_MAXSEG, 1000)
    special.listen(77)
    implicit = socket.socket()
    implicit.listen(2)  # binds by itself
    made = [only6, both, on4, *reused, special, implicit]

    def view():
        return [
            (one.getsockname(), one.getsockopt(S, socket.SO_REUSEADDR), one.getsockopt(S, socket.SO_REUSEPORT))
            + (one.getsockopt(T, socket.TCP_DEFER_ACCEPT), one.getsockopt(T, socket.TCP_FASTOPEN))
            + (one.getsockopt(S, socket.SO_BINDTODEVICE, 16), one.getsockopt(S, socket.SO_ACCEPTCONN))
            + (one.getsockopt(T, socket.TCP_INFO, 104)[24:32], one.getsockopt(T, socket.TCP_MAXSEG))
            for one in made
        ]

    before = view()
    pid = child(lambda: 3 if special.accept()[0].recv(10) == b"x" else 4)
    if checkpoint():
        special.setsockopt(T, socket.TCP_FASTOPEN, 3)
    assert view() == before, (before, view())
    client = socket.create_connection(special.getsockname())
    client.sendall(b"x")
    assert exit_code(pid) == 3
    for one in (on4, both, implicit):
        client = socket.create_connection(("127.0.0.1", one.getsockname()[1]))
        connection, _ = one.accept()
        connection.send(b"y")
        assert client.recv(1) == b"y"
    clients = [socket.create_connection(reused[0].getsockname()) for _ in range(1)]
    assert clients and os.getpid()


run(main)
