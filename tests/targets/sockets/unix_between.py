"""A server child and three client children with connections open and requests under way."""

import socket

from target_api import DIR, checkpoint, child, eventually, exit_code, run, wait_for_go


def client(n):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(DIR / "server"))
        connection.send(b"%d" % n)
        wait_for_go()
        return int(connection.recv(10))


def serve(server):
    connections = []
    for _ in range(3):
        connection, _ = server.accept()
        connections.append((connection, int(connection.recv(10))))
    (DIR / "accepted").touch()
    wait_for_go()
    for connection, n in connections:
        connection.send(b"%d" % (n * 10))
        connection.close()


def main():
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(DIR / "server"))
    server.listen()
    pids = [child(serve, server)] + [child(client, n) for n in (1, 2, 3)]
    server.close()
    eventually((DIR / "accepted").exists, "accepted")
    checkpoint()
    assert [exit_code(pid) for pid in pids] == [0, 10, 20, 30]


run(main)
