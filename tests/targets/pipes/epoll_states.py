"""epoll: an edge that was taken stays taken, one that waits comes; exclusive, wakeup and one-shot watches; two sets."""

import ctypes
import os
import select
import struct

from target_api import checkpoint, libc, run

EXCLUSIVE, WAKEUP = 1 << 28, 1 << 29


def add(epoll, fd, events, data):
    assert libc.epoll_ctl(epoll, 1, fd, struct.pack("<IQ", events, data)) == 0


def wait(epoll):
    room = ctypes.create_string_buffer(240)
    count = libc.epoll_wait(epoll, room, 20, 0)
    return sorted(struct.unpack_from("<IQ", room.raw, 12 * n)[::-1] for n in range(count))


def lines(epoll):
    with open(f"/proc/self/fdinfo/{epoll}") as stream:
        return sorted(line.split("pos")[0] for line in stream if line.startswith("tfd"))


def main():
    pipes = [os.pipe() for _ in range(6)]
    taken, waiting, shared = (libc.epoll_create1(0x80000) for _ in range(3))
    add(taken, pipes[0][0], select.EPOLLIN | select.EPOLLET, 1)
    add(taken, pipes[1][1], select.EPOLLOUT | select.EPOLLET, 2)
    os.write(pipes[0][1], b"x")
    assert wait(taken) == [(1, 1), (2, 4)] and wait(taken) == []
    add(waiting, pipes[2][0], select.EPOLLIN | select.EPOLLET, 3)
    add(waiting, pipes[3][0], select.EPOLLIN | select.EPOLLONESHOT, 4)
    os.write(pipes[2][1], b"x")
    os.write(pipes[3][1], b"x")
    add(shared, pipes[0][0], select.EPOLLIN, 1 << 60)
    add(shared, pipes[4][0], select.EPOLLIN | EXCLUSIVE, 6)
    add(shared, pipes[5][0], select.EPOLLIN | WAKEUP, 7)
    before = [lines(fd) for fd in (taken, waiting, shared)]
    if checkpoint():
        os.read(pipes[0][0], 1)
        libc.epoll_ctl(shared, 2, pipes[4][0], None)
    after = [lines(fd) for fd in (taken, waiting, shared)]
    assert before == after, (before, after)
    assert wait(taken) == [], "an edge came twice"
    assert wait(shared) == [(1 << 60, 1)]
    assert wait(waiting) == [(3, 1), (4, 1)] and wait(waiting) == []
    os.write(pipes[0][1], b"y")
    os.write(pipes[5][1], b"y")
    assert wait(taken) == [(1, 1)]
    assert wait(shared) == [(7, 1), (1 << 60, 1)]
    os.write(pipes[3][1], b"y")
    assert wait(waiting) == [], "the one-shot watch is spent"


run(main)
