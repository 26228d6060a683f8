"""A listener accepted from by three tasks, a connection used by two, a fork after accept, one passed on."""

import os
import socket

from target_api import checkpoint, child, exit_code, run


def main():
    server = socket.create_server(("127.0.0.1", 0))

    def worker():
        for _ in range(2):
            connection, _ = server.accept()
            connection.sendall(b"%d" % os.getpid() + connection.recv(100))
            connection.close()
        return 3

    workers = [child(worker) for _ in range(3)]
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    connection, _ = listener.accept()
    listener.close()
    passing, taken = socket.socketpair()
    socket.send_fds(passing, [b"here"], [connection.fileno()])
    speaker = child(lambda: connection.sendall(connection.recv(100).upper()) or 4)
    if checkpoint():
        os.kill(workers[0], 9)
    for _ in range(6):
        fresh = socket.create_connection(server.getsockname())
        fresh.sendall(b"-asked")
        text = b""
        while more := fresh.recv(100):
            text += more
        assert int(text.split(b"-")[0]) in workers
    assert [exit_code(pid) for pid in workers] == [3] * 3
    client.sendall(b"quiet")
    assert client.recv(100) == b"QUIET" and exit_code(speaker) == 4
    _, fds, _, _ = socket.recv_fds(taken, 10, 1)
    again = socket.socket(fileno=fds[0])
    again.sendall(b"by the other")
    assert client.recv(100) == b"by the other"


run(main)
