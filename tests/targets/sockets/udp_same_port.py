"""Several UDP sockets on one port, each with datagrams of its own: SO_REUSEPORT, SO_REUSEADDR, any address; with the
address, TTL and TOS that each was sent with."""

import select
import socket

from target_api import checkpoint, run

S, IP = socket.SOL_SOCKET, socket.IPPROTO_IP
ASK = (8, 12, 13)  # IP_PKTINFO, IP_RECVTTL, IP_RECVTOS


def group(option, count):
    made = []
    for _ in range(count):
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.setsockopt(S, option, 1)
        one.bind(("127.0.0.1", made[0].getsockname()[1] if made else 0))
        made.append(one)
        send(b"to number %d" % len(made), made[0].getsockname())  # with SO_REUSEADDR the last one gets it
    return made


def send(data, address, tos=0, ttl=64):
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.setsockopt(IP, socket.IP_TOS, tos)
    sender.setsockopt(IP, socket.IP_TTL, ttl)
    sender.sendto(data, address)


def take(one):
    """Everything in the queue, with what came along."""
    found = []
    while select.select([one], [], [], 0)[0]:
        data, control, _, sender = one.recvmsg(100, 500)
        found.append((data, sorted((level, kind, body) for level, kind, body in control), sender))
    return found


def main():
    ports = group(socket.SO_REUSEPORT, 4)
    for n in range(20):
        send(b"number %d" % n, ports[0].getsockname())
    addresses = group(socket.SO_REUSEADDR, 3)
    everywhere = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    everywhere.setsockopt(S, socket.SO_REUSEADDR, 1)
    everywhere.bind(("0.0.0.0", addresses[0].getsockname()[1]))
    for option in ASK:
        everywhere.setsockopt(IP, option, 1)
    send(b"elsewhere", ("127.0.0.2", everywhere.getsockname()[1]), tos=0x10, ttl=17)
    everything = [*ports, *addresses, everywhere]
    lengths = [bool(select.select([one], [], [], 0)[0]) for one in everything]
    first = [one.recvfrom(100, socket.MSG_PEEK) for one, full in zip(everything, lengths, strict=True) if full]
    if checkpoint():
        take(everywhere)
    assert [bool(select.select([one], [], [], 0)[0]) for one in everything] == lengths
    queues = [take(one) for one in everything]
    assert [(queue[0][0], queue[0][2]) for queue in queues if queue] == first, first
    got = sorted(message[0] for queue in queues[:4] for message in queue if message[0].startswith(b"number"))
    assert got == sorted(b"number %d" % n for n in range(20)), got
    ((data, control, _),) = queues[-1]
    values = {kind: body for _, kind, body in control}
    assert data == b"elsewhere" and values[8][8:12] == socket.inet_aton("127.0.0.2"), queues[-1]
    assert values[2][0] == 17 and values[1][0] == 0x10, values  # IP_TTL, IP_TOS
    for n in range(200):
        send(b"%d" % n, ports[0].getsockname())
    assert min(len(take(one)) for one in ports) > 10, "they do not share any more"


run(main)
