"""Options of the IP levels and of SOL_SOCKET on UDP, TCP, UDP-Lite, raw and ping sockets of both families."""

import socket
import struct

from target_api import checkpoint, run

S, I, J = socket.SOL_SOCKET, socket.IPPROTO_IP, socket.IPPROTO_IPV6  # noqa: E741
SOCKET = [
    (6, 1),  # SO_BROADCAST
    (5, 1),  # SO_DONTROUTE
    (9, 1),  # SO_KEEPALIVE
    (10, 1),  # SO_OOBINLINE
    (11, 1),  # SO_NO_CHECK
    (12, 6),  # SO_PRIORITY
    (18, 1),  # SO_RCVLOWAT
    (35, 1),  # SO_TIMESTAMPNS
    (36, 77),  # SO_MARK
    (37, 3),  # SO_TIMESTAMPING
    (40, 1),  # SO_RXQ_OVFL
    (41, 1),  # SO_WIFI_STATUS
    (43, 1),  # SO_NOFCS
    (45, 1),  # SO_SELECT_ERR_QUEUE
    (46, 50),  # SO_BUSY_POLL
    (47, 123456),  # SO_MAX_PACING_RATE
    (49, 0),  # SO_INCOMING_CPU
    (60, 1),  # SO_ZEROCOPY
    (2, 1),
    (15, 1),  # SO_REUSEADDR, SO_REUSEPORT
]
IP = [(1, 24), (2, 99), (6, 1), (7, 1), (8, 1), (10, 3), (11, 1), (12, 1), (13, 1), (15, 1), (18, 1), (19, 1), (20, 1)]
IP += [(21, 7), (23, 1), (24, 1), (25, 1), (26, 1), (33, 9), (34, 0), (49, 0)]
IPV6 = [(16, 55), (18, 7), (19, 0), (23, 2), (25, 1), (29, 0), (31, 1), (33, 1), (49, 1), (51, 1), (53, 1), (54, 1)]
IPV6 += [(56, 1), (58, 1), (60, 1), (62, 1), (66, 1), (67, 0x60), (70, 0), (72, 2), (73, 9), (74, 1), (75, 1), (78, 1)]


def make(family, kind, protocol=0):
    try:
        return socket.socket(family, kind, protocol)
    except OSError:
        return None


def main():
    wanted = [
        (socket.AF_INET, socket.SOCK_DGRAM, 0),
        (socket.AF_INET6, socket.SOCK_DGRAM, 0),
        (socket.AF_INET, socket.SOCK_STREAM, 0),
        (socket.AF_INET6, socket.SOCK_STREAM, 0),
        (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
        (socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6),
        (socket.AF_INET, socket.SOCK_DGRAM, 136),
        (socket.AF_INET6, socket.SOCK_DGRAM, 136),
        (socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP),
    ]
    made, taken = [], []
    for family, kind, protocol in wanted:
        one = make(family, kind, protocol)
        if one is None:
            continue
        options = [(S, *option) for option in SOCKET] + [(I, *option) for option in IP]
        if family == socket.AF_INET6:
            options = [(S, *option) for option in SOCKET] + [(J, *option) for option in IPV6]
        if protocol == 136:
            options += [(136, 10, 12), (136, 11, 16)]
        if family == socket.AF_INET and kind == socket.SOCK_DGRAM and not protocol:
            options += [(17, 104, 1), (17, 103, 800)]  # UDP_GRO, UDP_SEGMENT
        if family == socket.AF_INET6 and kind == socket.SOCK_DGRAM and not protocol:
            options += [(17, 101, 1), (17, 102, 1)]  # UDP_NO_CHECK6_TX, _RX
        if kind == socket.SOCK_RAW:
            options += [(255, 1, 1 << 8)] if family == socket.AF_INET else []  # ICMP_FILTER
            if family == socket.AF_INET6:
                one.setsockopt(58, 1, b"\x55" * 32)  # ICMPV6_FILTER
        good = []
        for option in options:
            try:
                one.setsockopt(*option)
                one.getsockopt(*option[:2], 8)
                good.append(option[:2])
            except OSError:
                continue
        one.setsockopt(S, socket.SO_RCVTIMEO, struct.pack("qq", 7, 500000))
        one.setsockopt(S, socket.SO_LINGER, struct.pack("ii", 1, 3))
        good += [(S, socket.SO_RCVTIMEO), (S, socket.SO_LINGER), (S, socket.SO_SNDBUF), (S, socket.SO_RCVBUF)]
        made.append(one)
        taken.append(good)

    def view():
        return [[one.getsockopt(*name, 32) for name in good] for one, good in zip(made, taken, strict=True)]

    before = view()
    if checkpoint():
        made[0].setsockopt(I, 2, 5)
    after = view()
    for one, good, old, new in zip(made, taken, before, after, strict=True):
        different = [(name, a, b) for name, a, b in zip(good, old, new, strict=True) if a != b]
        assert not different, (one, different)
    assert sum(map(len, taken)) > 150, [len(good) for good in taken]


run(main)
