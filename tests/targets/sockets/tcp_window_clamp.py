"""TCP_WINDOW_CLAMP of a listener, of a connection that inherited it, and of one where it was set; data goes on."""

import socket

from target_api import checkpoint, run

CLAMP = socket.TCP_WINDOW_CLAMP


def pair(family, host, clamp=0):
    listener = socket.socket(family)
    if clamp:
        listener.setsockopt(socket.IPPROTO_TCP, CLAMP, clamp)
    listener.bind((host, 0))
    listener.listen()
    client = socket.socket(family)
    client.connect(listener.getsockname())
    return listener, client, listener.accept()[0]


def target():
    made = []
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        made += [pair(family, host, 9000), pair(family, host)]
        made[-1][1].setsockopt(socket.IPPROTO_TCP, CLAMP, 5000)
    before = [[one.getsockopt(socket.IPPROTO_TCP, CLAMP) for one in group] for group in made]
    checkpoint()
    assert [[one.getsockopt(socket.IPPROTO_TCP, CLAMP) for one in group] for group in made] == before
    for _listener, client, server in made:
        for one, other in ((client, server), (server, client)):
            one.sendall(b"x" * 2000)
            assert other.recv(2000, socket.MSG_WAITALL) == b"x" * 2000


run(target)
