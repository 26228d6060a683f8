"""A stream socket pair with data both ways."""

import socket

from target_api import checkpoint, run


def main():
    one, two = socket.socketpair()
    one.send(b"to two")
    one.send(b", more")
    two.send(b"to one")
    if checkpoint():
        two.recv(1)
    assert two.recv(100) == b"to two, more" and one.recv(100) == b"to one"
    one.send(b"after")
    assert two.recv(100) == b"after"


run(main)
