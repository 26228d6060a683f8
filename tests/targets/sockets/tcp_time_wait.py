"""A listener without SO_REUSEADDR on a port that ended connections still take (TIME_WAIT, FIN_WAIT2)."""

import socket
from pathlib import Path

from target_api import checkpoint, eventually, run

S = socket.SOL_SOCKET


def states(port):
    """The states of the connections from the port that nobody has open."""
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].split(":")[1], 16) == port and fields[9] == "0":
            found.add(int(fields[3], 16))
    return found


def main():
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen(5)
    port = server.getsockname()[1]
    for _ in range(3):  # the side that closes first, the server's, waits
        client = socket.create_connection(server.getsockname())
        connection, _ = server.accept()
        connection.close()
        client.close()
    half = socket.create_connection(server.getsockname())
    server.accept()[0].close()
    eventually(lambda: states(port) >= {5, 6}, "FIN_WAIT2 and TIME_WAIT")
    client = socket.create_connection(server.getsockname())
    connection, _ = server.accept()
    if checkpoint():
        server.close()
    assert server.getsockname() == ("127.0.0.1", port) and server.getsockopt(S, socket.SO_REUSEADDR) == 0
    client.send(b"still there")
    assert connection.recv(100) == b"still there"
    assert half.recv(1) == b""
    another = socket.create_connection(server.getsockname())
    server.accept()[0].send(b"hello")
    assert another.recv(5) == b"hello"


run(main)
