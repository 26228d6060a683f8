"""Sockets shut down one way, both ways, and one whose peer is gone with data left."""

import socket

from target_api import checkpoint, run


def main():
    one, two = socket.socketpair()
    one.send(b"last")
    one.shutdown(socket.SHUT_WR)
    three, four = socket.socketpair()
    three.send(b"remains")
    three.close()
    five, six = socket.socketpair()
    five.shutdown(socket.SHUT_RDWR)
    if checkpoint():
        two.recv(1)
    assert two.recv(10) == b"last" and two.recv(10) == b""
    two.send(b"other way")
    assert one.recv(20) == b"other way"
    assert four.recv(20) == b"remains" and four.recv(20) == b""
    assert six.recv(1) == b"" and five.recv(1) == b""
    for closed in (one, four):
        try:
            closed.send(b"x")
        except BrokenPipeError:
            continue
        raise AssertionError("sent on a closed socket")


run(main)
