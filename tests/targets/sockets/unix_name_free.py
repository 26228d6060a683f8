"""A connection whose abstract name is nobody's any more, for the listener is gone: others can bind it."""

import os
import socket

from target_api import checkpoint, run


def listening(name):
    made = socket.socket(socket.AF_UNIX)
    made.bind(name)
    made.listen()
    return made


def accepted(name):
    """Both ends of a connection, the listener closed."""
    client = socket.socket(socket.AF_UNIX)
    with listening(name) as listener:
        client.connect(name)
        return client, listener.accept()[0]


def main():
    name, widowed = f"\0ckpt-free-{os.getpid()}", f"\0ckpt-widowed-{os.getpid()}"
    client, server = accepted(name)
    peer, alone = accepted(widowed)
    peer.close()
    server.send(b"hello")
    if checkpoint():
        client.recv(1)
    for free in (name, widowed):
        with listening(free):
            pass
    assert client.getpeername() == server.getsockname() == name.encode() and alone.getsockname() == widowed.encode()
    assert client.recv(10) == b"hello" and alone.recv(1) == b""


run(main)
