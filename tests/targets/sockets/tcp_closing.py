"""Connections in every state of closing, with data before the end, and after a reset."""

import errno
import socket
import struct

from target_api import checkpoint, eventually, run

ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE, CLOSE_WAIT, LAST_ACK, CLOSING = 1, 4, 5, 7, 8, 9, 11


def state(sock):
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


def main():
    server = socket.create_server(("127.0.0.1", 0))

    def pair():
        client = socket.create_connection(server.getsockname())
        return client, server.accept()[0]

    half, other = pair()
    half.sendall(b"before")
    half.shutdown(socket.SHUT_WR)
    both, done = pair()
    both.sendall(b"one")
    done.sendall(b"two")
    both.shutdown(socket.SHUT_WR)
    done.shutdown(socket.SHUT_WR)
    deaf, speaker = pair()
    deaf.shutdown(socket.SHUT_RD)
    gone, left = pair()
    left.sendall(b"")
    gone.sendall(b"last words")
    gone.close()
    reset, broken = pair()
    reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    reset.close()
    eventually(lambda: state(half) == FIN_WAIT2 and state(left) == CLOSE_WAIT and state(broken) == CLOSE)
    sockets = [half, other, both, done, deaf, speaker, left, broken]
    before = [state(sock) for sock in sockets]
    for sock in sockets:
        sock.settimeout(20)
    if checkpoint():
        other.recv(1)
    assert [state(sock) for sock in sockets] == before, (before, [state(sock) for sock in sockets])
    assert other.recv(10) == b"before" and other.recv(10) == b""
    other.sendall(b"back")
    assert half.recv(10) == b"back"
    other.close()
    assert half.recv(10) == b""
    assert both.recv(10) == b"two" and both.recv(1) == b"" and done.recv(10) == b"one" and done.recv(1) == b""
    assert deaf.recv(10) == b""
    deaf.sendall(b"still")
    assert speaker.recv(10) == b"still"
    assert left.recv(20) == b"last words" and left.recv(1) == b""
    try:
        broken.recv(1)
    except ConnectionResetError:
        pass
    else:
        raise AssertionError("the reset was forgotten")
    try:
        both.send(b"x")
    except BrokenPipeError as error:
        assert error.errno == errno.EPIPE
    else:
        raise AssertionError("sent after the end")


run(main)
