"""A TCP connection that its task has put into repair mode: it stays in it, and nothing of it is sent."""

import select
import socket

from target_api import Skip, checkpoint, run

TCP_REPAIR, TCP_REPAIR_OFF_NO_WP = 19, -1


def main():
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    connection, _ = server.accept()
    try:
        client.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    except OSError as error:
        raise Skip(f"no repair mode: {error}") from error
    if checkpoint():
        client.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP)
    assert client.getsockopt(socket.IPPROTO_TCP, TCP_REPAIR) == 1
    client.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP)
    client.send(b"x")
    assert select.select([connection], [], [], 30)[0] and connection.recv(9) == b"x"


run(main)
