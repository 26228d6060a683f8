"""TCP connections half closed: FIN received, FIN sent, data before it unread."""

import socket

from target_api import checkpoint, run


def main():
    server = socket.create_server(("127.0.0.1", 0))
    pairs = []
    for _ in range(2):
        client = socket.create_connection(server.getsockname())
        pairs.append((client, server.accept()[0]))
    (one, two), (three, four) = pairs
    one.sendall(b"before the end")
    one.shutdown(socket.SHUT_WR)
    four.shutdown(socket.SHUT_WR)
    if checkpoint():
        two.recv(1)
    assert two.recv(100) == b"before the end" and two.recv(100) == b""
    two.sendall(b"answer")
    assert one.recv(100) == b"answer"
    assert three.recv(10) == b""
    three.sendall(b"still open")
    assert four.recv(100) == b"still open"


run(main)
