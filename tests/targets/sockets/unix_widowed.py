"""Ends whose peer is gone: with data, with an error that was not fetched, of every type."""

import errno
import select
import socket

from target_api import DIR, checkpoint, run


def polled(sock):
    poller = select.poll()
    poller.register(sock, select.POLLIN | select.POLLOUT | select.POLLRDHUP)
    return dict(poller.poll(0)).get(sock.fileno(), 0)


def failure(function, *args):
    try:
        return function(*args)
    except OSError as error:
        return errno.errorcode[error.errno]


def main():
    kinds = (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM)
    left, reset = [], []
    for kind in kinds:
        one, two = socket.socketpair(type=kind)
        two.send(b"last")
        two.close()
        left.append(one)
        one, two = socket.socketpair(type=kind)
        one.send(b"never read")
        two.close()
        reset.append(one)
    both, two = socket.socketpair(type=socket.SOCK_SEQPACKET)
    two.send(b"one")
    two.send(b"two")
    both.send(b"never read")
    two.close()
    box, sender = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
    box.bind(str(DIR / "box"))
    sender.connect(str(DIR / "box"))
    box.close()
    view = [polled(sock) for sock in (*left, *reset, sender, both)]
    if checkpoint():
        left[0].recv(1)
    after = [polled(sock) for sock in (*left, *reset, sender, both)]
    assert after == view, (view, after)
    assert [sock.recv(10) for sock in left] == [b"last"] * 3
    assert [failure(sock.recv, 10) for sock in reset[:2]] == ["ECONNRESET"] * 2
    assert [failure(sock.recv, 10) for sock in (*left[:2], *reset[:2])] == [b""] * 4
    assert [failure(both.recv, 10) for _ in range(4)] == ["ECONNRESET", b"one", b"two", b""]
    assert [failure(sock.send, b"x") for sock in (*left, *reset)] == ["EPIPE", "EPIPE", "ECONNREFUSED"] * 2
    assert failure(sender.send, b"x") == "ECONNREFUSED"


run(main)
