"""A listener without SO_REUSEADDR, with connections whose clients have closed them, and with one whose client lives."""

import socket

from target_api import checkpoint, run


def target():
    families = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
    listeners, left, alive = [], [], []
    for family, host in families:
        listener = socket.socket(family)
        listener.bind((host, 0))
        listener.listen()
        clients = [socket.create_connection(listener.getsockname()[:2]) for _ in range(4)]
        accepted = [listener.accept()[0] for _ in clients]
        for client in clients[1:]:
            client.sendall(b"last")
            client.close()
        listeners.append(listener)
        left += accepted[1:]
        alive.append((clients[0], accepted[0]))
    checkpoint()
    for server in left:
        assert server.recv(10, socket.MSG_WAITALL) == b"last"
    for client, server in alive:
        server.sendall(b"still here")
        assert client.recv(20) == b"still here"
    for listener in listeners:
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 0
        again = socket.create_connection(listener.getsockname()[:2])
        server = listener.accept()[0]
        again.sendall(b"new")
        assert server.recv(10) == b"new"


run(target)
