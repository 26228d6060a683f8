"""Options of Unix sockets: credentials, offsets of peeking, timeouts, buffers, and flags of the descriptors."""

import fcntl
import os
import socket
import struct

from target_api import DIR, checkpoint, run

S = socket.SOL_SOCKET
SO_PEEK_OFF, SO_PASSSEC = 42, 34
OPTIONS = [
    (socket.SO_PASSCRED, 1),
    (SO_PASSSEC, 1),
    (socket.SO_RCVLOWAT, 3),
    (socket.SO_SNDBUF, 20000),
    (socket.SO_RCVBUF, 30000),
    (socket.SO_KEEPALIVE, 1),
    (socket.SO_REUSEADDR, 1),
    (socket.SO_PRIORITY, 5),
    (socket.SO_BROADCAST, 1),
    (29, 1),  # SO_TIMESTAMP
]


def main():
    one, two = socket.socketpair()
    three, four = socket.socketpair(type=socket.SOCK_DGRAM)
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(DIR / "server"))
    for made in (one, three, server):
        for name, value in OPTIONS:
            made.setsockopt(S, name, value)
        made.setsockopt(S, socket.SO_RCVTIMEO, struct.pack("qq", 3, 250000))
        made.setsockopt(S, socket.SO_SNDTIMEO, struct.pack("qq", 4, 0))
        made.setsockopt(S, socket.SO_LINGER, struct.pack("ii", 1, 6))
    two.setsockopt(S, SO_PEEK_OFF, 2)
    four.setsockopt(S, SO_PEEK_OFF, 0)
    one.send(b"abcdef")
    three.send(b"uvw")
    fcntl.fcntl(one, fcntl.F_SETFL, os.O_RDWR | os.O_NONBLOCK | os.O_ASYNC)
    os.set_inheritable(two.fileno(), True)

    def view(made):
        values = [made.getsockopt(S, name) for name, _ in OPTIONS]
        values += [made.getsockopt(S, name, 16) for name in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO, socket.SO_LINGER)]
        values += [fcntl.fcntl(made, fcntl.F_GETFL), made.getsockopt(S, SO_PEEK_OFF)]
        return values

    before = [view(made) for made in (one, two, three, four, server)]
    if checkpoint():
        one.setsockopt(S, socket.SO_PRIORITY, 1)
    after = [view(made) for made in (one, two, three, four, server)]
    assert before == after, (before, after)
    assert two.recv(2, socket.MSG_PEEK) == b"cd" and two.getsockopt(S, SO_PEEK_OFF) == 4
    assert two.recv(100) == b"abcdef" and four.recv(10, socket.MSG_PEEK) == b"uvw" == four.recv(10)


run(main)
