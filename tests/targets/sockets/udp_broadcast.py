"""A datagram to a broadcast address that was not read yet; the sender connected there."""

import socket

from target_api import checkpoint, run

S = socket.SOL_SOCKET


def main():
    inbox = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    inbox.bind(("127.255.255.255", 0))
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.setsockopt(S, socket.SO_BROADCAST, 1)
    sender.connect(inbox.getsockname())
    sender.send(b"to everybody")
    names = inbox.getsockname(), sender.getsockname(), sender.getpeername()
    if checkpoint():
        inbox.recv(1)
    assert (inbox.getsockname(), sender.getsockname(), sender.getpeername()) == names
    assert sender.getsockopt(S, socket.SO_BROADCAST) == 1 and inbox.getsockopt(S, socket.SO_BROADCAST) == 0
    inbox.settimeout(20)
    assert inbox.recvfrom(100) == (b"to everybody", sender.getsockname())
    sender.send(b"again")
    assert inbox.recv(100) == b"again"


run(main)
