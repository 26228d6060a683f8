"""TCP: the other end was closed with more to say than there is room for; it is said when it is read."""

import socket

from target_api import checkpoint, run

SIZE = 1 << 20


def main():
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(server.getsockname())
    connection, _ = server.accept()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * SIZE)
    connection.setblocking(False)
    told = connection.send(b"!" * SIZE)
    connection.close()
    assert told > 1 << 16, told
    checkpoint()
    heard = 0
    while data := client.recv(1 << 16):
        heard += len(data)
    assert heard == told, (heard, told)


run(main)
