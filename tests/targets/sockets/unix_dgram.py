"""Datagram and seqpacket pairs keep their messages apart, empty ones too."""

import socket

from target_api import checkpoint, run


def main():
    for_all = []
    for kind in (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        one, two = socket.socketpair(type=kind)
        for message in (b"first", b"", b"x" * 5000):
            one.send(message)
        for_all.append((one, two))
    if checkpoint():
        for_all[0][1].recv(1)
        for_all[0][0].send(b"more")
    for one, two in for_all:
        assert [two.recv(10000) for _ in range(3)] == [b"first", b"", b"x" * 5000]
        two.send(b"back")
        assert one.recv(100) == b"back"


run(main)
