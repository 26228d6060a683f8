"""A selector with sockets in every state, driven on afterwards."""

import selectors
import socket

from target_api import checkpoint, run


def main():
    selector = selectors.DefaultSelector()
    server = socket.create_server(("127.0.0.1", 0))
    server.setblocking(False)
    selector.register(server, selectors.EVENT_READ, "server")
    client = socket.create_connection(server.getsockname())
    client.setblocking(False)
    selector.register(client, selectors.EVENT_READ, "client")
    connection = None
    while connection is None:
        for key, _ in selector.select():
            connection, _ = key.fileobj.accept()
    selector.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE, "connection")
    if checkpoint():
        client.send(b"!")
    assert [key.data for key, _ in selector.select(20)] == ["connection"]
    connection.send(b"x")
    selector.modify(connection, selectors.EVENT_READ, "connection")
    assert [key.data for key, _ in selector.select(20)] == ["client"]


run(main)
