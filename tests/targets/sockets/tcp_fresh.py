"""TCP sockets that are neither connected nor listening: just made, and bound."""

import socket

from target_api import checkpoint, run


def main():
    fresh, bound = socket.socket(), socket.socket()
    bound.bind(("127.0.0.1", 0))
    name = bound.getsockname()
    if checkpoint():
        bound.close()
    assert bound.getsockname() == name
    bound.listen()
    fresh.connect(name)
    connection, _ = bound.accept()
    fresh.send(b"x")
    assert connection.recv(1) == b"x"


run(main)
