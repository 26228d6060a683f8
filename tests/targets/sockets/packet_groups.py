"""Packet sockets with memberships (one added twice), in a fanout group, and of the old type SOCK_PACKET."""

import ctypes
import os
import socket
import struct
from pathlib import Path

from target_api import Skip, call, checkpoint, run

PACKET, OLD = socket.AF_PACKET, 10
LEVEL, ADD, DROP, FANOUT = 263, 1, 2, 18
MINE = os.getpid() % 0x1000
PROTOCOL = 0x9000 + MINE  # nobody's
ADDRESS = b"\x33\x33\1\2" + MINE.to_bytes(2, "big")


def name_of(sock):
    """getsockname, which Python does not know for SOCK_PACKET."""
    room, length = ctypes.create_string_buffer(32), ctypes.c_int(32)
    call("getsockname", sock.fileno(), room, ctypes.byref(length))
    return room.raw[: length.value]


def heard():
    """Whether lo takes what is sent to the multicast address."""
    return ADDRESS.hex() in Path("/proc/net/dev_mcast").read_text()


def main():
    try:
        member = socket.socket(PACKET, socket.SOCK_RAW, 0)
    except PermissionError:
        raise Skip("needs CAP_NET_RAW") from None
    lo = socket.if_nametoindex("lo")
    multicast = struct.pack("iHH8s", lo, 0, 6, ADDRESS)
    requests = [struct.pack("iHH8s", lo, 1, 0, b""), struct.pack("iHH8s", lo, 2, 0, b""), multicast, multicast]
    for request in requests:
        member.setsockopt(LEVEL, ADD, request)
    group = [socket.socket(PACKET, socket.SOCK_RAW, 0) for _ in range(3)]
    for one in group:
        one.bind(("lo", PROTOCOL))
        one.setsockopt(LEVEL, FANOUT, MINE | 1 << 16)  # PACKET_FANOUT_LB
    old = socket.socket(PACKET, OLD, socket.htons(PROTOCOL))
    call("bind", old.fileno(), ctypes.create_string_buffer(struct.pack("H14s", PACKET, b"lo")), 16)
    sender = socket.socket(PACKET, socket.SOCK_RAW, 0)
    everything = [member, *group, old, sender]
    before = [name_of(one) for one in everything], [one.getsockopt(LEVEL, FANOUT) for one in group]
    if checkpoint():
        member.setsockopt(LEVEL, DROP, multicast)
    assert ([name_of(one) for one in everything], [one.getsockopt(LEVEL, FANOUT) for one in group]) == before
    listening = [heard()]
    for request in requests:
        member.setsockopt(LEVEL, DROP, request)
        listening.append(heard())
    assert listening == [True, True, True, True, False], listening
    for n in range(9):
        sender.sendto(bytes(12) + struct.pack("!H", PROTOCOL) + b"frame %d" % n, ("lo", PROTOCOL))
        old.settimeout(20)
        assert old.recv(100)[14:] == b"frame %d" % n
    counts = []
    for one in group:
        one.setblocking(False)
        counts.append(0)
        try:
            while one.recv(100):
                counts[-1] += 1
        except BlockingIOError:
            pass
    assert counts == [3, 3, 3], counts


run(main)
