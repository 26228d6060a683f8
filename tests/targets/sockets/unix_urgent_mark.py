"""Urgent bytes of Unix streams, with SO_OOBINLINE and without: read up to, replaced, with more behind them."""

import errno
import fcntl
import socket

from target_api import checkpoint, run

SIOCATMARK, FIONREAD = 0x8905, 0x541B


def made(way):
    one, two = socket.socketpair()
    two.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, way & 1)
    one.send(b"before")
    one.send(b"xU", socket.MSG_OOB)
    one.send(b"after")
    if way & 2:
        assert two.recv(7) == b"beforex"
    if way & 4:
        one.send(b"V", socket.MSG_OOB)
        one.send(b"end")
    two.setblocking(False)
    return one, two


def seen(two):
    found = []
    for call in (
        lambda: fcntl.ioctl(two, SIOCATMARK, bytes(4)),
        lambda: fcntl.ioctl(two, FIONREAD, bytes(4)),
        lambda: two.recv(100, socket.MSG_PEEK),
        lambda: two.recv(100),
        lambda: fcntl.ioctl(two, SIOCATMARK, bytes(4)),
        lambda: two.recv(1, socket.MSG_OOB),
        lambda: two.recv(100),
        lambda: two.recv(100),
    ):
        try:
            found.append(call())
        except OSError as error:
            found.append(errno.errorcode[error.errno])
    return found


def main():
    pairs = [made(way) for way in range(8)]
    if checkpoint():
        pairs[0][1].recv(1)
    for way, (_, two) in enumerate(pairs):
        _one, fresh = made(way)
        assert (found := seen(two)) == (wanted := seen(fresh)), (way, found, wanted)


run(main)
