"""A netlink socket that can ask for the interfaces."""

import socket
import struct

from target_api import checkpoint, run


def main():
    link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    link.bind((0, 1))
    name = link.getsockname()
    if checkpoint():
        link.close()
    assert link.getsockname() == name
    link.settimeout(20)
    link.send(struct.pack("<IHHIIBxxxi8x", 32, 18, 0x301, 7, 0, 0, 0))
    sequence = 0
    while sequence != 7:  # it hears of every change of an interface, too
        length, kind, _, sequence, _ = struct.unpack_from("<IHHII", link.recv(65536))
        assert kind in (16, 17) and length > 32
    assert kind == 16


run(main)
