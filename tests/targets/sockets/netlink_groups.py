"""Netlink: a chosen port, groups, a kernel event socket, several in one task, connected, and not bound at all."""

import os
import socket
import struct

from target_api import checkpoint, run

N = socket.AF_NETLINK
SOL_NETLINK = 270


def ask(link):
    link.settimeout(20)
    link.send(struct.pack("<IHHIIBxxxi8x", 32, 18, 0x301, 5, 0, 0, 0))
    while True:
        data = link.recv(1 << 18)
        if struct.unpack_from("<H", data, 4)[0] == 3:
            return True


def main():
    route = socket.socket(N, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    route.bind((os.getpid() + 100_000, 0x11))
    second = socket.socket(N, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    second.bind((0, 0))
    second.setsockopt(SOL_NETLINK, 1, 26)  # NETLINK_ADD_MEMBERSHIP
    for name in (3, 4, 5, 10, 11, 12):  # PKTINFO, BROADCAST_ERROR, NO_ENOBUFS, CAP_ACK, EXT_ACK, GET_STRICT_CHK
        second.setsockopt(SOL_NETLINK, name, 1)
    event = socket.socket(N, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, 15)  # NETLINK_KOBJECT_UEVENT
    event.bind((0, 1))
    fresh = socket.socket(N, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    diag = socket.socket(N, socket.SOCK_RAW, 4)
    diag.connect((0, 0))
    everything = [route, second, event, fresh, diag]

    def view():
        names = [one.getsockname() for one in everything]
        return [*names, *[second.getsockopt(SOL_NETLINK, name) for name in (3, 4, 5, 10, 11, 12)]]

    def members(one):
        return one.getsockopt(SOL_NETLINK, 9, 8)

    before = view(), members(second), members(route)
    if checkpoint():
        second.setsockopt(SOL_NETLINK, 2, 26)
    assert (view(), members(second), members(route)) == before, (view(), before)
    route.setsockopt(SOL_NETLINK, 2, 1)
    assert ask(route) and ask(fresh)


run(main)
