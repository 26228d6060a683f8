"""A byte out of band between others, not read yet; and one to be read inline."""

import socket

from target_api import Skip, checkpoint, run


def main():
    one, two = socket.socketpair()
    try:
        one.send(b"before!", socket.MSG_OOB)
    except OSError:
        raise Skip("no MSG_OOB on Unix sockets") from None
    one.send(b"after")
    three, four = socket.socketpair()
    four.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    three.send(b"inline!", socket.MSG_OOB)
    three.send(b"more")
    if checkpoint():
        two.recv(1)
    assert two.recv(1, socket.MSG_OOB) == b"!"
    assert two.recv(100) == b"before" and two.recv(100) == b"after"
    assert four.recv(100) == b"inline" and four.recv(100) == b"!more"


run(main)
