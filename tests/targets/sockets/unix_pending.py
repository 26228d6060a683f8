"""Connections that wait to be accepted, from two tasks, in their order, to names of every kind."""

import os
import socket

from target_api import DIR, checkpoint, child, exit_code, run, wait_for_go


def main():
    names = [str(DIR / "stream"), f"\0ckpt-pending-{os.getpid()}", str(DIR / "packets")]
    kinds = [socket.SOCK_STREAM, socket.SOCK_STREAM, socket.SOCK_SEQPACKET]
    servers, clients = [], []
    for name, kind in zip(names, kinds, strict=True):
        server = socket.socket(socket.AF_UNIX, kind)
        server.bind(name)
        server.listen(5)
        servers.append(server)
        for n in range(3):
            client = socket.socket(socket.AF_UNIX, kind)
            if n == 1:
                client.bind(f"\0ckpt-client-{os.getpid()}-{len(clients)}")
            client.connect(name)
            clients.append(client)
    reader, writer = os.pipe()

    def other():
        client = socket.socket(socket.AF_UNIX)
        client.connect(names[0])
        os.write(writer, b"c")
        wait_for_go()
        return 4 if client.recv(10) == b"server 0" else 5

    pid = child(other)
    os.read(reader, 1)
    if checkpoint():
        servers[0].accept()
    for n, server in enumerate(servers):
        for client in clients[n * 3 : n * 3 + 3]:
            connection, name = server.accept()
            connection.send(b"server %d" % n)
            client.send(b"client")
            assert client.recv(20) == b"server %d" % n and connection.recv(10) == b"client"
            assert name == (client.getsockname() or name)
    connection, _ = servers[0].accept()
    connection.send(b"server 0")
    assert exit_code(pid) == 4


run(main)
