"""Named datagram sockets, one connected to the other, messages from two senders queued."""

import socket

from target_api import DIR, checkpoint, run


def main():
    boxes = []
    for name in ("a", "b", "c"):
        box = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        box.bind(str(DIR / name))
        boxes.append(box)
    one, two, three = boxes
    one.connect(str(DIR / "c"))
    one.send(b"from a")
    two.sendto(b"from b", str(DIR / "c"))
    if checkpoint():
        three.recv(1)
    assert three.recvfrom(100) == (b"from a", str(DIR / "a"))
    assert three.recvfrom(100) == (b"from b", str(DIR / "b"))
    one.send(b"again")
    assert three.recv(100) == b"again"
    three.sendto(b"answer", str(DIR / "b"))
    assert two.recv(100) == b"answer"


run(main)
