"""Datagrams begun and not sent yet: by UDP_CORK, by MSG_MORE, to a peer and to an address, IPv4 and IPv6, in pages."""

import socket

from target_api import checkpoint, run

UDP_CORK = 1
LARGE = bytes(range(256)) * 120


def main():
    box4, box6 = (socket.socket(family, socket.SOCK_DGRAM) for family in (socket.AF_INET, socket.AF_INET6))
    box4.bind(("127.0.0.1", 0))
    box6.bind(("::1", 0))
    made = []
    for box, family in ((box4, socket.AF_INET), (box6, socket.AF_INET6)):
        for connected in (True, False):
            for cork in (True, False):
                sender = socket.socket(family, socket.SOCK_DGRAM)
                to = box.getsockname()[:2]
                if connected:
                    sender.connect(to)
                if cork:
                    sender.setsockopt(socket.IPPROTO_UDP, UDP_CORK, 1)
                for part in (b"be", LARGE):
                    flags = 0 if cork else socket.MSG_MORE
                    _ = sender.send(part, flags) if connected else sender.sendto(part, flags, to)
                made.append((box, sender, to, connected, cork))
    mapped = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)  # an IPv4 datagram of an IPv6 socket
    mapped.sendto(b"mapped", socket.MSG_MORE, ("::ffff:127.0.0.1", box4.getsockname()[1]))
    made.append((box4, mapped, ("::ffff:127.0.0.1", box4.getsockname()[1]), False, False))
    if checkpoint():
        made[0][1].setsockopt(socket.IPPROTO_UDP, UDP_CORK, 0)
        made[0][1].setsockopt(socket.IPPROTO_UDP, UDP_CORK, 1)
    for box, sender, to, connected, cork in made:
        box.settimeout(20)
        assert sender.getsockopt(socket.IPPROTO_UDP, UDP_CORK) == cork
        _ = sender.send(b"gun") if connected else sender.sendto(b"gun", to)
        if cork:
            sender.setsockopt(socket.IPPROTO_UDP, UDP_CORK, 0)
        wanted = b"mappedgun" if sender is mapped else b"be" + LARGE + b"gun"
        assert box.recv(1 << 16) == wanted
    for box in (box4, box6):
        box.setblocking(False)
        try:
            raise AssertionError(f"{box.recv(20)!r} was sent as well")
        except BlockingIOError:
            pass


run(main)
