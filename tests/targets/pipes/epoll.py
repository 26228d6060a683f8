"""epoll: level, edge and one-shot entries, their data, and one epoll in another."""

import ctypes
import os
import select
import struct

from target_api import checkpoint, libc, run


def add(epoll, fd, events, data):
    libc.epoll_ctl(epoll, 1, fd, struct.pack("<IQ", events, data))


def wait(epoll):
    room = ctypes.create_string_buffer(120)
    count = libc.epoll_wait(epoll, room, 10, 0)
    return sorted(struct.unpack_from("<IQ", room.raw, 12 * n)[::-1] for n in range(count))


def main():
    pipes = [os.pipe() for _ in range(4)]
    inner, outer = select.epoll(), select.epoll()
    add(inner.fileno(), pipes[0][0], select.EPOLLIN, 1 << 63 | 5)
    add(inner.fileno(), pipes[1][0], select.EPOLLIN | select.EPOLLONESHOT, 6)
    add(inner.fileno(), pipes[2][0], select.EPOLLIN | select.EPOLLET, 7)
    add(inner.fileno(), pipes[3][1], select.EPOLLOUT, 8)
    add(outer.fileno(), inner.fileno(), select.EPOLLIN, 99)
    os.write(pipes[1][1], b"x")
    assert wait(inner.fileno()) == [(6, 1), (8, 4)]
    os.close(pipes[3][0])
    if checkpoint():
        inner.unregister(pipes[0][0])
    assert wait(inner.fileno()) == [(8, 4 | 8)]
    for n in range(3):
        os.write(pipes[n][1], b"y")
    assert wait(outer.fileno()) == [(99, 1)]
    assert wait(inner.fileno()) == [(7, 1), (8, 12), (1 << 63 | 5, 1)]
    assert wait(inner.fileno()) == [(8, 12), (1 << 63 | 5, 1)]


run(main)
