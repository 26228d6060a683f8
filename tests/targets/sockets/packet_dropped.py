"""Packets that waited in a packet socket are lost, and PACKET_STATISTICS tells how many; new ones arrive."""

import os
import socket
import struct

from target_api import Skip, checkpoint, run

PROTOCOL = 0xA000 + os.getpid() % 0x1000  # nobody's


def main():
    try:
        inbox = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    except PermissionError:
        raise Skip("needs CAP_NET_RAW") from None
    inbox.bind(("lo", PROTOCOL))
    sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)

    def send(n):
        sender.sendto(bytes(12) + struct.pack("!H", PROTOCOL) + b"frame %d" % n, ("lo", PROTOCOL))

    for n in range(7):
        send(n)
    before = inbox.getsockname(), inbox.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    if checkpoint():
        inbox.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 9999)
    assert (inbox.getsockname(), inbox.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)) == before
    waiting, dropped = 0, struct.unpack("II", inbox.getsockopt(263, 6, 8))[1]  # PACKET_STATISTICS
    inbox.setblocking(False)
    try:
        while inbox.recv(100):
            waiting += 1
    except BlockingIOError:
        pass
    assert (waiting, dropped) in ((7, 0), (0, 7)), (waiting, dropped)  # the first, when it was left running
    send(8)
    assert inbox.recv(100)[14:] == b"frame 8"


run(main)
