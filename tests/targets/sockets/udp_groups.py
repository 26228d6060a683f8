"""Datagrams that wait in sockets bound to a multicast group, on one port, and in one bound to any address."""

import socket
import struct

from target_api import checkpoint, run

I = socket.IPPROTO_IP  # noqa: E741
GROUP = "239.1.2.30"
MEMBERSHIP = socket.inet_aton(GROUP) + socket.inet_aton("127.0.0.1")


def member(name):
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind(name)
    one.setsockopt(I, socket.IP_ADD_MEMBERSHIP, MEMBERSHIP)
    one.setsockopt(I, 8, 1)  # IP_PKTINFO
    one.settimeout(20)
    return one


def take(one):
    data, control, _, sender = one.recvmsg(100, 500)
    (info,) = [body for level, kind, body in control if (level, kind) == (I, 8)]
    return data, socket.inet_ntoa(info[8:12]), sender


def empty(one):
    one.setblocking(False)
    try:
        return take(one) and False
    except BlockingIOError:
        return True
    finally:
        one.settimeout(20)


def main():
    first = member((GROUP, 0))
    port = first.getsockname()[1]
    second, anywhere = member((GROUP, port)), member(("", port))
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind(("127.0.0.1", 0))
    sender.setsockopt(I, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
    for text in (b"one", b"two", b""):
        sender.sendto(text, (GROUP, port))
    second.recv(100)
    sender.sendto(b"direct", ("127.0.0.1", port))
    if checkpoint():
        first.recv(100)
    here = sender.getsockname()
    one, two, nothing = ((text, GROUP, here) for text in (b"one", b"two", b""))
    assert [take(first) for _ in range(3)] == [one, two, nothing] and empty(first)
    assert [take(second) for _ in range(2)] == [two, nothing] and empty(second)
    assert [take(anywhere) for _ in range(4)] == [one, two, nothing, (b"direct", "127.0.0.1", here)] and empty(anywhere)
    for one in (first, second, anywhere):
        assert one.getsockname()[1] == port
    sender.sendto(b"after", (GROUP, port))
    assert [take(one)[0] for one in (first, second, anywhere)] == [b"after"] * 3
    first.sendto(struct.pack("I", port), here)
    assert sender.recvfrom(100) == (struct.pack("I", port), ("127.0.0.1", port)), "it is bound to no address of a host"


run(main)
