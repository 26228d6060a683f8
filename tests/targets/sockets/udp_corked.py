"""A corked UDP socket with a datagram begun."""

import socket

from target_api import checkpoint, run


def main():
    box, sender = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    box.bind(("127.0.0.1", 0))
    sender.connect(box.getsockname())
    sender.setsockopt(17, 1, 1)  # UDP_CORK
    if checkpoint():
        sender.setsockopt(17, 1, 0)
    assert sender.getsockopt(17, 1) == 1
    sender.send(b"be")
    sender.send(b"gun")
    sender.setsockopt(17, 1, 0)
    box.settimeout(20)
    assert box.recv(20) == b"begun"


run(main)
