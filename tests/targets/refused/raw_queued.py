"""A raw socket with packets that were not read."""

import socket

from target_api import checkpoint, run


def main():
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, 253)
    raw.bind(("127.0.0.1", 0))
    raw.sendto(b"one", ("127.0.0.1", 0))
    raw.sendto(b"two", ("127.0.0.1", 0))
    checkpoint()
    raw.settimeout(20)
    assert [raw.recv(100)[20:] for _ in range(2)] == [b"one", b"two"]


run(main)
