"""Raw and ping sockets with packets that were not read, of both families; requests and the kernel's answers to them."""

import contextlib
import socket
import struct

from target_api import Skip, checkpoint, run

ANY = 253  # a protocol for experiments


def raw(family, protocol, host, kind=socket.SOCK_RAW):
    made = socket.socket(family, kind, protocol)
    made.bind((host, 0))
    made.connect((host, 0))
    return made


def echo(kind):
    body = struct.pack("!BBHHH", kind, 0, 0, 77, 1) + b"is anybody there"
    total = sum(struct.unpack("!12H", body))
    total = (total & 0xFFFF) + (total >> 16)
    return body[:2] + struct.pack("!H", ~total & 0xFFFF) + body[4:]


def queue(one):
    found = []
    one.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(one.recvfrom(1000))
    return found


def main():
    try:
        four, six = raw(socket.AF_INET, ANY, "127.0.0.1"), raw(socket.AF_INET6, ANY, "::1")
        icmp = raw(socket.AF_INET, socket.IPPROTO_ICMP, "127.0.0.1")
        icmp6 = raw(socket.AF_INET6, socket.IPPROTO_ICMPV6, "::1")
    except PermissionError:
        raise Skip("needs CAP_NET_RAW") from None
    everything = [four, six, icmp, icmp6]
    with contextlib.suppress(PermissionError):  # of the groups of net.ipv4.ping_group_range
        everything.append(raw(socket.AF_INET, socket.IPPROTO_ICMP, "127.0.0.1", socket.SOCK_DGRAM))
        everything[-1].send(echo(8))
    for n in range(3):
        four.send(b"four %d" % n)
        six.send(b"six %d" % n)
    four.send(b"")
    icmp.send(echo(8))
    icmp6.send(echo(128))
    names = [one.getsockname() for one in everything]
    first = [one.recvfrom(1000, socket.MSG_PEEK) for one in everything]
    if checkpoint():
        four.recv(1)
    assert [one.getsockname() for one in everything] == names
    queues = [queue(one) for one in everything]
    assert [one[0] for one in queues] == first, (queues, first)
    assert [data[20:] for data, _ in queues[0]] == [b"four 0", b"four 1", b"four 2", b""], queues[0]
    assert [data for data, _ in queues[1]] == [b"six 0", b"six 1", b"six 2"], queues[1]
    assert [data[20] for data, _ in queues[2]][:2] == [8, 0] and len(queues[2]) in (2, 4), queues[2]
    assert [data[0] for data, _ in queues[3]] == [128, 129], queues[3]
    icmp.send(echo(8))
    icmp.settimeout(20)
    assert [icmp.recv(1000)[20] for _ in range(2)] == [8, 0]


run(main)
