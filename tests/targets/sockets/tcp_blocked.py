"""Tasks that wait in accept, in recv, in send with full buffers, and in poll."""

import select
import socket

from target_api import checkpoint, child, eventually, exit_code, pattern, run, state

SIZE = 12_000_000


def main():
    server = socket.create_server(("127.0.0.1", 0))
    quiet = socket.create_server(("127.0.0.1", 0))
    pairs = []
    for _ in range(3):
        client = socket.create_connection(server.getsockname())
        pairs.append((client, server.accept()[0]))
    (one, two), (three, four), (five, six) = pairs

    def poll():
        poller = select.poll()
        poller.register(six, select.POLLIN)
        return 9 if poller.poll(600000) == [(six.fileno(), select.POLLIN)] and six.recv(10) == b"polled" else 10

    def send():
        three.sendall(pattern(7, SIZE))
        return 7

    pids = [
        child(lambda: 3 if quiet.accept()[0].recv(10) == b"hello" else 4),
        child(lambda: 5 if two.recv(10) == b"data" else 6),
        child(send),
        child(poll),
    ]
    three.close()
    for pid in pids:
        eventually(lambda pid=pid: state(pid) == "S")
    if checkpoint():
        four.recv(1)
    socket.create_connection(quiet.getsockname()).sendall(b"hello")
    one.sendall(b"data")
    five.sendall(b"polled")
    data = bytearray()
    four.settimeout(30)
    while len(data) < SIZE:
        data += four.recv(1 << 20)
    assert data == pattern(7, SIZE)
    assert [exit_code(pid) for pid in pids] == [3, 5, 7, 9]


run(main)
