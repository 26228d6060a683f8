"""A TCP connection with both ends inside and data queued both ways."""

import socket

from target_api import checkpoint, pattern, run


def main():
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    connection, _ = server.accept()
    server.close()
    client.sendall(pattern(1, 50_000))
    connection.sendall(b"the other way")
    names = client.getsockname(), client.getpeername()
    if checkpoint():
        client.sendall(b"!" * 50_000)
        connection.recv(1)
    data = b""
    while len(data) < 50_000:
        data += connection.recv(65536)
    assert data == pattern(1, 50_000) and client.recv(100) == b"the other way"
    assert (client.getsockname(), client.getpeername()) == names
    client.sendall(b"x" * 200_000)
    client.shutdown(socket.SHUT_WR)
    total = 0
    while more := connection.recv(65536):
        total += len(more)
    assert total == 200_000
    connection.close()
    assert client.recv(1) == b""


run(main)
