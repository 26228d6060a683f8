"""TCP_MD5SIG: a listener and a connection whose segments are signed; who has no key gets no answer."""

import socket
import struct

from target_api import Skip, checkpoint, run

MD5SIG = 14


def key(sock, host, port):
    """struct tcp_md5sig."""
    address = struct.pack("<H", socket.AF_INET) + struct.pack("!H", port) + socket.inet_aton(host)
    sock.setsockopt(
        6, MD5SIG, address.ljust(128, b"\0") + struct.pack("<BBHI", 0, 0, 6, 0) + b"secret".ljust(80, b"\0")
    )


def main():
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    try:
        key(server, "127.0.0.1", 0)
    except OSError as error:
        raise Skip(f"no TCP_MD5SIG: {error}") from error
    server.listen(3)

    def connect():
        client = socket.socket()
        key(client, *server.getsockname())
        client.settimeout(20)
        client.connect(server.getsockname())
        return client, server.accept()[0]

    client, connection = connect()
    client.send(b"before")
    if checkpoint():
        connection.close()
    connection.settimeout(20)
    assert connection.recv(100) == b"before"
    client.send(b"after")
    assert connection.recv(100) == b"after"
    connection.send(b"back")
    assert client.recv(100) == b"back"
    connect()
    stranger = socket.socket()
    stranger.settimeout(1)
    try:
        stranger.connect(server.getsockname())
    except TimeoutError:
        return
    raise AssertionError("connected without the key")


run(main)
