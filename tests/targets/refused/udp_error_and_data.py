"""A UDP socket that was refused, with a datagram waiting: a look at it would take the error away."""

import errno
import select
import socket

from target_api import checkpoint, run


def main():
    peer, one = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    peer.bind(("127.0.0.1", 0))
    one.connect(peer.getsockname())
    peer.sendto(b"waiting", one.getsockname())
    peer.close()
    one.send(b"is anybody there")
    poller = select.poll()
    poller.register(one, 0)
    assert poller.poll(20000), "not refused"
    checkpoint()
    assert one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
    assert one.recv(10) == b"waiting"


run(main)
