"""A netlink socket with an answer that was not read, which nobody could send again."""

import socket
import struct

from target_api import checkpoint, run


def main():
    link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    link.send(struct.pack("<IHHIIBxxxi8x", 32, 18, 0x301, 7, 0, 0, 0))
    checkpoint()
    assert struct.unpack_from("<IHHI", link.recv(65536))[3] == 7


run(main)
