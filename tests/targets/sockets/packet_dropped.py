"""Packets that waited in packet sockets, raw and cooked, are lost; PACKET_STATISTICS tells it; new ones arrive."""

import os
import socket
import struct

from target_api import Skip, checkpoint, run

PROTOCOL = 0xA000 + os.getpid() % 0x1000  # nobody's
ROOM = (socket.SOL_SOCKET, socket.SO_RCVBUF)


def main():
    try:
        inboxes = [(socket.socket(socket.AF_PACKET, kind, 0), header) for kind, header in ((3, 14), (2, 0))]
    except PermissionError:
        raise Skip("needs CAP_NET_RAW") from None
    for inbox, _ in inboxes:
        inbox.bind(("lo", PROTOCOL))
    sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)

    def send(n):
        sender.sendto(bytes(12) + struct.pack("!H", PROTOCOL) + b"frame %d" % n, ("lo", PROTOCOL))

    for n in range(7):
        send(n)
    before = [(inbox.getsockname(), inbox.getsockopt(*ROOM)) for inbox, _ in inboxes]
    if checkpoint():
        for inbox, _ in inboxes:
            inbox.setsockopt(*ROOM, 9999)
    assert [(inbox.getsockname(), inbox.getsockopt(*ROOM)) for inbox, _ in inboxes] == before
    for inbox, _ in inboxes:
        waiting, dropped = 0, struct.unpack("II", inbox.getsockopt(263, 6, 8))[1]  # PACKET_STATISTICS
        inbox.setblocking(False)
        try:
            while inbox.recv(100):
                waiting += 1
        except BlockingIOError:
            pass
        assert (waiting, dropped) in ((7, 0), (0, 7)), (waiting, dropped)  # the first, when it was left running
    send(8)
    for inbox, header in inboxes:
        assert inbox.recv(100)[header:] == b"frame 8"


run(main)
