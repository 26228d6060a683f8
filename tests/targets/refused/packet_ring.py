"""A packet socket whose ring is mapped: it must be refused by name."""

import socket
import struct

from target_api import Skip, checkpoint, mmap, run


def main():
    try:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        sock.setsockopt(263, 5, struct.pack("IIII", 4096, 4, 2048, 8))  # SOL_PACKET, PACKET_RX_RING
        area = mmap(4 * 4096, 3, 1, sock.fileno())
    except OSError as error:
        raise Skip(f"no packet ring: {error}") from error
    checkpoint()
    assert area


run(main)
