"""UDP-Lite sockets with datagrams that were not read, of both families."""

import socket

from target_api import Skip, checkpoint, run


def main():
    boxes = []
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            box, sender = (socket.socket(family, socket.SOCK_DGRAM, 136) for _ in range(2))
        except OSError:
            raise Skip("no UDP-Lite") from None
        box.bind((host, 0))
        sender.connect(box.getsockname())
        sender.send(b"lite")
        sender.send(b"more")
        boxes.append((box, sender))
    if checkpoint():
        boxes[0][0].recv(1)
    for box, sender in boxes:
        box.settimeout(20)
        assert box.recvfrom(10) == (b"lite", sender.getsockname()) and box.recv(10) == b"more"
        sender.send(b"after")
        assert box.recv(10) == b"after"


run(main)
