"""Pipes both of whose ends are in flight in sockets alone: in one message, in two sockets, one inside another."""

import os
import socket

from target_api import checkpoint, run


def main():
    left, right = socket.socketpair()
    other, another = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reader, writer = os.pipe()
    os.write(writer, b"together")
    socket.send_fds(left, [b"x"], [reader, writer])
    first, second = os.pipe2(os.O_DIRECT)
    os.write(second, b"apart")
    socket.send_fds(left, [b"r"], [first])
    socket.send_fds(other, [b"w"], [second])
    inner, innermost = socket.socketpair()
    deep, deepest = os.pipe()
    os.write(deepest, b"deep")
    socket.send_fds(inner, [b"i"], [deep])
    socket.send_fds(other, [b"s"], [innermost.fileno(), deepest])
    for fd in (reader, writer, first, second, deep, deepest):
        os.close(fd)
    innermost.close()
    if checkpoint():
        right.recv(1)
    ends = [socket.recv_fds(right, 1, 2)[1], socket.recv_fds(right, 1, 1)[1] + socket.recv_fds(another, 1, 1)[1]]
    inside, writer = socket.recv_fds(another, 1, 2)[1]
    with socket.socket(fileno=inside) as receiver:
        ends.append([socket.recv_fds(receiver, 1, 1)[1][0], writer])
    for (reader, writer), text in zip(ends, (b"together", b"apart", b"deep"), strict=True):
        assert os.read(reader, 99) == text
        os.write(writer, b"more")
        assert os.read(reader, 99) == b"more"
        os.close(writer)
        assert os.read(reader, 1) == b""


run(main)
