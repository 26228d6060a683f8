"""The size of the segments that connections send (TCP_MAXSEG, once connected) does not fall to the least of TCP."""

import socket
import threading

from target_api import checkpoint, run

SIZE = 40 << 20


def pair(family, address):
    with socket.create_server((address, 0), family=family) as server:
        client = socket.create_connection(server.getsockname()[:2])
        return client, server.accept()[0]


def send(one, other):
    def take():
        left = SIZE
        while left:
            left -= len(other.recv(left))

    reader = threading.Thread(target=take)
    reader.start()
    one.sendall(bytes(SIZE))
    reader.join()


def largest(one):
    return one.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)


def main():
    ends = [*pair(socket.AF_INET, "127.0.0.1"), *pair(socket.AF_INET6, "::1")]
    others = [ends[n ^ 1] for n in range(4)]
    for one, other in zip(ends, others, strict=True):
        send(one, other)  # the window opens as far as it ever will
    before = [largest(one) for one in ends]
    if checkpoint(same=False):  # the last reader may still be ending
        ends[0].send(b"x")
        ends[1].close()
    assert [largest(one) for one in ends] == before, (before, [largest(one) for one in ends])
    for one, other in zip(ends, others, strict=True):
        send(one, other)


run(main)
