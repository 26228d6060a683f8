"""A socket pair full of data, with a child blocked in send."""

import socket

from target_api import checkpoint, child, exit_code, pattern, run


def main():
    one, two = socket.socketpair()
    size = 600_000

    def send():
        two.close()
        one.sendall(pattern(4, size))
        return 14

    pid = child(send)
    one.close()
    if checkpoint():
        two.recv(1)
    data = b""
    while more := two.recv(65536):
        data += more
    assert data == pattern(4, size), len(data)
    assert exit_code(pid) == 14


run(main)
