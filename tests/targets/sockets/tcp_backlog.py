"""TCP connections not accepted yet, with data that has arrived."""

import socket

from target_api import checkpoint, run


def main():
    server = socket.create_server(("127.0.0.1", 0), backlog=8)
    clients = [socket.create_connection(server.getsockname()) for _ in range(3)]
    for n, client in enumerate(clients):
        client.sendall(b"early %d" % n)
    if checkpoint():
        clients[0].close()
        server.accept()
    server.settimeout(20)
    by_name = {client.getsockname(): n for n, client in enumerate(clients)}
    for _ in clients:
        connection, name = server.accept()
        connection.settimeout(20)
        assert connection.recv(100) == b"early %d" % by_name.pop(name)


run(main)
