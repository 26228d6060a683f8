"""Sockets whose connection has ended: by both, by a reset, refused; with data and errors not fetched yet."""

import errno
import select
import socket
import struct

from target_api import checkpoint, eventually, run

S, T = socket.SOL_SOCKET, socket.IPPROTO_TCP


def state(sock):
    return sock.getsockopt(T, socket.TCP_INFO, 1)[0]


def polled(sock):
    poller = select.poll()
    poller.register(sock, select.POLLIN | select.POLLOUT | select.POLLRDHUP)
    return dict(poller.poll(0)).get(sock.fileno(), 0)


def main():
    server = socket.create_server(("127.0.0.1", 0))
    six = socket.create_server(("::1", 0), family=socket.AF_INET6)

    def pair(listener=server):
        client = socket.create_connection(listener.getsockname()[:2])
        return client, listener.accept()[0]

    def reset(sock):
        sock.setsockopt(S, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    first, second = pair()
    second.shutdown(socket.SHUT_WR)
    first.recv(1)
    first.shutdown(socket.SHUT_WR)
    first.close()
    ended = second
    breaker, broken = pair()
    breaker.sendall(b"unread")
    reset(breaker)
    breaker, known = pair()
    reset(breaker)
    eventually(lambda: state(known) == 7)
    assert known.getsockopt(S, socket.SO_ERROR) == errno.ECONNRESET
    breaker, broken6 = pair(six)
    reset(breaker)
    gone = socket.socket()
    gone.bind(("127.0.0.1", 0))  # so that nobody else has the port: it does not listen
    refused = socket.socket()
    refused.setblocking(False)
    refused.connect_ex(gone.getsockname())
    sockets = [broken, known, broken6, refused]
    eventually(lambda: all(state(sock) == 7 for sock in sockets))
    gone.close()
    names = [sock.getsockname() for sock in sockets]
    before = [polled(sock) for sock in sockets]
    if checkpoint():
        broken.recv(10)
    after = [polled(sock) for sock in sockets]
    assert before == after, (before, after)
    assert names == [sock.getsockname() for sock in sockets]
    assert [state(sock) for sock in sockets] == [7] * 4
    assert refused.getsockopt(S, socket.SO_ERROR) == errno.ECONNREFUSED
    assert broken.recv(10) == b"unread"
    for sock in (broken, broken6):
        try:
            sock.recv(10)
        except ConnectionResetError:
            assert sock.recv(10) == b""
        else:
            raise AssertionError("the reset was forgotten")
    for sock in (known, broken, ended):
        assert sock.recv(10) == b""
        try:
            sock.send(b"x")
        except BrokenPipeError:
            continue
        raise AssertionError("sent on an ended connection")


run(main)
