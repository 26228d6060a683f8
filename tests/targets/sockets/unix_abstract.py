"""Abstract names: a server, an accepted connection, a datagram socket."""

import os
import socket

from target_api import checkpoint, run


def main():
    name = f"\0ckpt-target-{os.getpid()}"
    server = socket.socket(socket.AF_UNIX)
    server.bind(name)
    server.listen()
    client = socket.socket(socket.AF_UNIX)
    client.connect(name)
    connection, _ = server.accept()
    box = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    box.bind(name + "-box")
    if checkpoint():
        box.close()
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.sendto(b"post", name + "-box")
    assert box.recv(10) == b"post"
    connection.send(b"x")
    assert client.recv(1) == b"x"
    assert client.getpeername() == name.encode() and connection.getsockname() == name.encode()
    late = socket.socket(socket.AF_UNIX)
    late.connect(name)
    server.accept()


run(main)
