"""Every option, of every level and of sockets of every kind, that can be set to another value and read back."""

import socket
import struct

from target_api import checkpoint, run

KINDS = [
    (socket.AF_INET, socket.SOCK_DGRAM, 0),
    (socket.AF_INET, socket.SOCK_STREAM, 0),
    (socket.AF_INET6, socket.SOCK_DGRAM, 0),
    (socket.AF_INET6, socket.SOCK_STREAM, 0),
    (socket.AF_UNIX, socket.SOCK_STREAM, 0),
    (socket.AF_UNIX, socket.SOCK_DGRAM, 0),
    (socket.AF_UNIX, socket.SOCK_SEQPACKET, 0),
    (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    (socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6),
    (socket.AF_INET, socket.SOCK_RAW, 253),
    (socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP),
    (socket.AF_INET, socket.SOCK_DGRAM, 136),
    (socket.AF_NETLINK, socket.SOCK_RAW, 0),
    (socket.AF_PACKET, socket.SOCK_RAW, 0),
]
# What asks, or acts, and does not set: filters and their lock, repair mode, TCP_ULP, rings, fanout.
NOT = {(1, 26), (1, 44), (6, 11), *((6, n) for n in (19, 20, 21, 22, 24, 29, 31)), (0, 16), (0, 17), (0, 64), (41, 1)}
NOT |= {(263, n) for n in (1, 5, 13, 18, 22)}
VALUES = [
    (value, pack)
    for value in (1, 0, 2, 3, 7, 40, 900, 65535)
    for pack in (
        lambda v: struct.pack("i", v),
        lambda v: struct.pack("ii", v, v),
        lambda v: struct.pack("qq", v, 0),
        lambda v: struct.pack("Q", v),
    )
]


def levels(family, kind, protocol):
    yield socket.SOL_SOCKET, 90
    if family in (socket.AF_INET, socket.AF_INET6):
        yield 0, 70
        yield 41, 85
        yield 255, 8
        if kind == socket.SOCK_STREAM:
            yield 6, 50
        if kind == socket.SOCK_DGRAM:
            yield 17, 120
            yield 136, 120
    yield 270, 15
    yield 263, 25


def change(one, level, name):
    """Whether the option could be set to something else."""
    try:
        old = one.getsockopt(level, name, 64)
    except OSError:
        return False
    for value, pack in VALUES:
        packed = pack(value)
        if len(old) in (4, 8, 16) and len(packed) != len(old):
            continue
        try:
            one.setsockopt(level, name, packed)
            if one.getsockopt(level, name, 64) != old:
                return True
        except OSError:
            continue
    return False


def main():
    made = []
    for kind in KINDS:
        try:
            socket.socket(*kind).close()
        except OSError:
            continue
        for level, top in levels(*kind):
            for name in range(1, top):
                one = socket.socket(*kind)
                if (level, name) not in NOT and change(one, level, name):
                    made.append((kind, level, name, one, one.getsockopt(level, name, 64)))
                else:
                    one.close()
    assert len(made) > 200, len(made)
    if checkpoint():
        made[0][3].close()
    different = [
        (kind, level, name, old, one.getsockopt(level, name, 64))
        for kind, level, name, one, old in made
        if one.getsockopt(level, name, 64) != old
    ]
    assert not different, different


run(main)
