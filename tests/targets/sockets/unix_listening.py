"""A listening socket with a name, connections waiting in its backlog with data in them."""

import os
import socket

from target_api import DIR, checkpoint, run


def main():
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(DIR / "server"))
    os.chmod(DIR / "server", 0o640)
    server.listen(7)
    clients = []
    for n in range(3):
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(DIR / "server"))
        client.send(b"client %d" % n)
        clients.append(client)
    if checkpoint():
        server.accept()
    for n in range(3):
        connection, _ = server.accept()
        assert connection.recv(100) == b"client %d" % n
        connection.send(b"hello %d" % n)
        assert clients[n].recv(100) == b"hello %d" % n
        assert clients[n].getpeername() == str(DIR / "server")
    assert os.stat(DIR / "server").st_mode & 0o777 == 0o640
    late = socket.socket(socket.AF_UNIX)
    late.connect(str(DIR / "server"))


run(main)
