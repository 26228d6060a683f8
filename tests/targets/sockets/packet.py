"""Packet and raw sockets: bound to an interface, with a filter, receiving after."""

import ctypes
import socket
import struct

from target_api import Skip, checkpoint, run


def main():
    try:
        packet = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        cooked = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, 253)
        header = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    except PermissionError:
        raise Skip("needs CAP_NET_RAW") from None
    none = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))
    packet.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HxxxxxxP", 1, ctypes.addressof(none)))
    packet.bind(("lo", 0x0800))
    packet.setsockopt(263, 8, 1)  # PACKET_AUXDATA
    while True:
        try:
            packet.recv(1 << 16, socket.MSG_DONTWAIT)
        except BlockingIOError:
            break
    raw.bind(("127.0.0.1", 0))
    raw.connect(("127.0.0.1", 0))
    names = [one.getsockname() for one in (packet, cooked, raw, header)]
    if checkpoint():
        packet.setsockopt(263, 8, 0)
    assert [one.getsockname() for one in (packet, cooked, raw, header)] == names
    assert packet.getsockopt(263, 8) == 1
    raw.settimeout(20)
    raw.send(b"payload")
    assert raw.recv(100)[20:] == b"payload"
    packet.setsockopt(socket.SOL_SOCKET, 27, 0)
    packet.settimeout(20)
    raw.send(b"seen by both")
    while b"seen by both" not in packet.recv(1 << 16):
        pass


run(main)
