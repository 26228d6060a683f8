"""TCP connections that wait to be accepted, nothing sent yet; IPv4 and IPv6, one shut down by its client."""

import socket

from target_api import checkpoint, run


def main():
    servers = [socket.create_server(("127.0.0.1", 0), backlog=8)]
    try:
        servers.append(socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True))
    except OSError:
        pass
    clients = []
    for server in servers:
        port = server.getsockname()[1]
        clients.append([socket.create_connection(("127.0.0.1", port)) for _ in range(3)])
    clients[0][1].shutdown(socket.SHUT_WR)
    names = [[client.getsockname() for client in group] for group in clients]
    if checkpoint():
        servers[0].accept()
    for server, group, known in zip(servers, clients, names, strict=True):
        server.settimeout(20)
        for n, client in enumerate(group):
            connection, name = server.accept()
            assert name[1] == known[n][1] and client.getsockname() == known[n]
            connection.settimeout(20)
            if server is servers[0] and n == 1:
                assert connection.recv(10) == b""
            else:
                client.sendall(b"later")
                assert connection.recv(10) == b"later"
            connection.sendall(b"answer")
            assert client.recv(10) == b"answer"


run(main)
