"""A packet socket with a ring that is shared with the kernel."""

import mmap
import socket
import struct

from target_api import checkpoint, run


def main():
    packet = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    packet.setsockopt(263, 5, struct.pack("4I", 4096, 2, 2048, 4))  # PACKET_RX_RING
    ring = mmap.mmap(packet.fileno(), 8192)
    checkpoint()
    assert len(ring) == 8192


run(main)
