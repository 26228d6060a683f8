"""TCP sockets bound and not listening, on both families; one disconnected; one refused; one never used."""

import errno
import socket

from target_api import checkpoint, run


def main():
    bound4, bound6, fresh6 = socket.socket(), socket.socket(socket.AF_INET6), socket.socket(socket.AF_INET6)
    bound4.bind(("127.0.0.1", 0))
    bound6.bind(("::1", 0))
    fresh6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    shared = [socket.socket() for _ in range(2)]
    for one in shared:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("127.0.0.1", shared[0].getsockname()[1]))
    refused = socket.socket()
    closed = socket.socket()
    closed.bind(("127.0.0.1", 0))  # so that nobody else has the port: it does not listen
    assert refused.connect_ex(closed.getsockname()) == errno.ECONNREFUSED
    closed.close()
    stopped = socket.create_server(("127.0.0.1", 0))
    stopped.shutdown(socket.SHUT_RD)  # no listener any more, but still bound
    names = [one.getsockname() for one in (bound4, bound6, *shared, stopped)]
    if checkpoint():
        bound4.close()
    assert [one.getsockname() for one in (bound4, bound6, *shared, stopped)] == names
    for one in (bound4, bound6, shared[0], stopped):
        one.listen()
        client = socket.create_connection(one.getsockname()[:2])
        connection, _ = one.accept()
        connection.send(b"x")
        assert client.recv(1) == b"x"
    refused.connect(bound4.getsockname())
    fresh6.connect(bound6.getsockname())


run(main)
