"""Names that the kernel chose, and names with zero bytes in them."""

import os
import socket

from target_api import checkpoint, run


def main():
    boxes = []
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        box = socket.socket(socket.AF_UNIX, kind)
        box.bind(b"")
        boxes.append(box)
    odd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    odd.bind(b"\0ckpt\0" + str(os.getpid()).encode() + b"\0\0")
    boxes.append(odd)
    full = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    full.bind(b"\0" + str(os.getpid()).encode().ljust(107, b"-"))
    boxes.append(full)
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.connect(full.getsockname())
    names = [box.getsockname() for box in boxes]
    assert len(names[0]) == 6
    if checkpoint():
        boxes[0].close()
    assert [box.getsockname() for box in boxes] == names and sender.getpeername() == names[-1]
    sender.send(b"a")
    boxes[1].sendto(b"b", names[3])
    assert full.recv(10) == b"a" and odd.recvfrom(10) == (b"b", names[1])


run(main)
