"""Descriptors in flight within descriptors in flight, a circle, a listener, several in a message, every type."""

import array
import os
import socket

from target_api import DIR, checkpoint, run


def take(sock, count):
    data, ancillary, _, _ = sock.recvmsg(100, socket.CMSG_SPACE(4 * count))
    fds = array.array("i")
    fds.frombytes(ancillary[0][2])
    assert len(fds) == count
    return data, fds


def main():
    kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET)
    pairs = [socket.socketpair(type=kind) for kind in kinds]
    reader, writer = os.pipe()
    for n, (one, _) in enumerate(pairs):
        socket.send_fds(one, [b"first %d" % n], [reader] * (n + 1))
        socket.send_fds(one, [b"second %d" % n], [writer])
    inner, outer = socket.socketpair()
    deep, deeper = socket.socketpair()
    deep.send(b"at the bottom")
    socket.send_fds(inner, [b"inner"], [deeper.fileno()])
    one, two = socket.socketpair()
    socket.send_fds(one, [b"outer"], [outer.fileno()])
    deeper.close()
    outer.close()
    # A socket in its own queue.
    ring, end = socket.socketpair()
    socket.send_fds(ring, [b"itself"], [end.fileno(), ring.fileno()])
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(DIR / "listener"))
    listener.listen()
    socket.send_fds(one, [b"listener"], [listener.fileno()])
    listener.close()
    if checkpoint():
        two.recv(1)
        pairs[1][1].recv(1)
    os.write(writer, b"!" * 9)
    for n, (_, two_) in enumerate(pairs):
        data, fds = take(two_, n + 1)
        assert data == b"first %d" % n
        assert os.read(fds[-1], 1) == b"!"
        data, fds = take(two_, 1)
        assert data == b"second %d" % n and os.write(fds[0], b"?") == 1
    data, fds = take(two, 1)
    assert data == b"outer"
    outer = socket.socket(fileno=fds[0])
    data, fds = take(outer, 1)
    assert data == b"inner"
    assert socket.socket(fileno=fds[0]).recv(100) == b"at the bottom"
    data, fds = take(end, 2)
    assert data == b"itself"
    os.write(fds[1], b"round")
    assert os.read(fds[0], 10) == b"round"
    data, fds = take(two, 1)
    listener = socket.socket(fileno=fds[0])
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(DIR / "listener"))
    listener.accept()[0].send(b"x")
    assert client.recv(1) == b"x"


run(main)
