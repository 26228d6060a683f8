"""A TCP echo child and a parent that talks to it all the time."""

import socket

from target_api import checkpoint, child, exit_code, run


def main():
    server = socket.create_server(("127.0.0.1", 0))

    def echo():
        connection, _ = server.accept()
        count = 0
        while data := connection.recv(100):
            connection.sendall(data[::-1])
            count += 1
        return min(count, 9)

    pid = child(echo)
    client = socket.create_connection(server.getsockname())
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def step(n):
        client.sendall(b"%08d" % n)
        answer = b""
        while len(answer) < 8:
            answer += client.recv(8 - len(answer))
        assert answer == (b"%08d" % n)[::-1]

    for n in range(9):
        step(n)
    if checkpoint(step):
        client.recv_into(bytearray(0))
        client.sendall(b"!")
    step(1)
    client.shutdown(socket.SHUT_WR)
    assert exit_code(pid) == 9


run(main)
