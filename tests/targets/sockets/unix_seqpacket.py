"""A seqpacket server with connections accepted and not, records of any length queued, one end shut down."""

import socket

from target_api import DIR, checkpoint, run


def connect():
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.connect(str(DIR / "server"))
    return client


def main():
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server.bind(str(DIR / "server"))
    server.listen(4)
    client = connect()
    connection, _ = server.accept()
    waiting = connect()
    for record in (b"one", b"", b"x" * 70000, b"last"):
        client.send(record)
    connection.send(b"reply")
    client.shutdown(socket.SHUT_WR)
    if checkpoint():
        connection.recv(1)
    assert [connection.recv(100000) for _ in range(4)] == [b"one", b"", b"x" * 70000, b"last"]
    assert connection.recv(10) == b"" and client.recv(10) == b"reply"
    late, _ = server.accept()
    waiting.send(b"now")
    assert late.recv(10) == b"now" and late.getsockname() == client.getpeername() == str(DIR / "server")


run(main)
