"""SO_ATTACH_REUSEPORT_CBPF: a program that chooses which socket of a port gets what comes."""

import ctypes
import socket
import struct

from target_api import checkpoint, run

ATTACH = 51


def main():
    inboxes = []
    for _ in range(3):
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind(("127.0.0.1", inboxes[0].getsockname()[1] if inboxes else 0))
        inboxes.append(one)
    # The socket whose number is the first byte of the datagram.
    code = struct.pack("HBBI", 0x30, 0, 0, 0) + struct.pack("HBBI", 0x16, 0, 0, 0)
    held = ctypes.create_string_buffer(code)
    program = struct.pack("HxxxxxxP", 2, ctypes.addressof(held))
    inboxes[0].setsockopt(socket.SOL_SOCKET, ATTACH, program)
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def send(text):
        for n in range(3):
            sender.sendto(bytes([n]) + text, inboxes[0].getsockname())

    def check(text):
        for n, one in enumerate(inboxes):
            one.settimeout(20)
            assert one.recv(100) == bytes([n]) + text, (n, text)

    send(b"waits")
    if checkpoint():
        other = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))
        inboxes[0].setsockopt(socket.SOL_SOCKET, ATTACH, struct.pack("HxxxxxxP", 1, ctypes.addressof(other)))
    check(b"waits")
    for _ in range(5):
        send(b"comes")
        check(b"comes")


run(main)
