"""TCP connections not accepted yet: more data than the window holds, shut down, and closed by their clients."""

import socket

from target_api import checkpoint, pattern, run


def main():
    server = socket.create_server(("127.0.0.1", 0), backlog=8)
    clients = [socket.create_connection(server.getsockname()) for _ in range(4)]
    large, shut, gone, silent = clients
    names = [client.getsockname() for client in clients]
    large.setblocking(False)
    data, sent = pattern(6, 3_000_000), 0
    try:
        while sent < len(data):
            sent += large.send(data[sent:])
    except BlockingIOError:
        pass
    large.setblocking(True)
    shut.sendall(b"done")
    shut.shutdown(socket.SHUT_WR)
    gone.sendall(b"left behind")
    gone.close()
    silent.close()
    if checkpoint():
        server.accept()
    server.settimeout(20)
    accepted = []
    for name in names:
        connection, peer = server.accept()
        assert peer == name, (peer, names)
        connection.settimeout(20)
        accepted.append(connection)
    got = bytearray()
    while len(got) < sent:
        got += accepted[0].recv(1 << 20)
    assert got == data[:sent]
    large.sendall(b"more")
    assert accepted[0].recv(10) == b"more"
    assert accepted[1].recv(10) == b"done" and accepted[1].recv(10) == b""
    accepted[1].sendall(b"answer")
    assert shut.recv(10) == b"answer"
    assert accepted[2].recv(20) == b"left behind" and accepted[2].recv(1) == b"" == accepted[3].recv(1)


run(main)
