"""Listening TCP sockets, IPv4 and IPv6, accept connections afterwards."""

import socket

from target_api import checkpoint, run


def main():
    servers = [socket.create_server(("127.0.0.1", 0), backlog=5)]
    if socket.has_ipv6:
        try:
            servers.append(socket.create_server(("::1", 0), family=socket.AF_INET6))
        except OSError:
            pass
    names = [server.getsockname() for server in servers]
    if checkpoint():
        servers[0].close()
    for server, name in zip(servers, names, strict=True):
        assert server.getsockname() == name
        with socket.create_connection(name[:2]) as client:
            connection, _ = server.accept()
            client.send(b"hello")
            assert connection.recv(10) == b"hello"
            connection.close()


run(main)
