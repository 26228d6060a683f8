"""Sockets that are neither connected nor listening, of every type, bound or not, used for the first time."""

import socket

from target_api import DIR, checkpoint, run


def main():
    made = {}
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        made[kind] = socket.socket(socket.AF_UNIX, kind), socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK)
        made[kind][0].bind(str(DIR / f"bound{int(kind)}"))
    if checkpoint():
        made[socket.SOCK_STREAM][0].close()
    for kind, (bound, free) in made.items():
        assert bound.getsockname() == str(DIR / f"bound{int(kind)}") and free.getsockname() == ""
        assert free.getblocking() is False and free.type == kind
        if kind == socket.SOCK_DGRAM:
            free.sendto(b"first", bound.getsockname())
            assert bound.recv(10) == b"first"
            continue
        bound.listen()
        free.connect(bound.getsockname())
        connection, _ = bound.accept()
        connection.send(b"first")
        assert free.recv(10) == b"first"


run(main)
