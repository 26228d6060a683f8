"""Multipath TCP: listeners of both families, one bound and one fresh socket; all work on."""

import socket

from target_api import Skip, checkpoint, run

MPTCP = 262
ANY = (socket.AF_INET, socket.AF_INET6)


def main():
    try:
        fresh = socket.socket(socket.AF_INET, socket.SOCK_STREAM, MPTCP)
    except OSError as error:
        raise Skip(f"no Multipath TCP: {error}") from error
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, MPTCP)
    bound.bind(("127.0.0.1", 0))
    listeners = [socket.socket(family, socket.SOCK_STREAM, MPTCP) for family in ANY]
    listeners[1].setsockopt(41, 26, 0)  # IPV6_V6ONLY
    for listener, host in zip(listeners, ("127.0.0.1", "::"), strict=True):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, 0))
        listener.listen(30)
    everything = [fresh, bound, *listeners]
    before = [(one.getsockname(), one.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)) for one in everything]
    if checkpoint():
        listeners[0].close()
    assert [(o.getsockname(), o.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)) for o in everything] == before
    assert {one.getsockopt(socket.SOL_SOCKET, 38) for one in everything} == {MPTCP}  # SO_PROTOCOL
    bound.listen(1)
    for listener in (bound, *listeners):
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, MPTCP)
        client.connect(("127.0.0.1", listener.getsockname()[1]))
        connection, _ = listener.accept()
        client.send(b"hello")
        assert connection.recv(5) == b"hello"


run(main)
