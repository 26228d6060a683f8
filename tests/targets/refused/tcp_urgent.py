"""Urgent data that was not read yet."""

import socket

from target_api import checkpoint, eventually, run


def main():
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    connection, _ = server.accept()
    inline = socket.create_connection(server.getsockname())
    inlined, _ = server.accept()
    inlined.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    client.send(b"before!", socket.MSG_OOB)
    client.send(b"after")
    inline.send(b"ab!", socket.MSG_OOB)
    inline.send(b"cd")

    def arrived():
        try:
            return connection.recv(1, socket.MSG_OOB | socket.MSG_PEEK) == b"!"
        except OSError:
            return False

    eventually(arrived)
    if checkpoint():
        connection.recv(1, socket.MSG_OOB)
    assert connection.recv(1, socket.MSG_OOB) == b"!"
    assert connection.recv(100) == b"before"
    assert connection.recv(100) == b"after"
    text = b""
    while len(text) < 5:
        text += inlined.recv(100)
    assert text == b"ab!cd"


run(main)
