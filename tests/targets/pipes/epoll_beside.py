"""epoll: edges that were reported stay so beside what still waits, inside another set, of timers, for a child, too."""

import os
import select
import socket
import struct

from target_api import checkpoint, child, exit_code, libc, run

IN, EDGE = select.EPOLLIN, select.EPOLLIN | select.EPOLLET


def expired():
    timer = libc.timerfd_create(1, 0o4000)
    libc.timerfd_settime(timer, 0, struct.pack("<4q", 0, 0, 0, 1000), None)
    select.select([timer], [], [])
    return timer


def main():
    outer, inner, late = select.epoll(), select.epoll(), select.epoll()
    pipes = [os.pipe() for _ in range(4)]
    stream, other = socket.socketpair()
    timer, event = expired(), os.eventfd(2)
    for fd in (pipes[0][0], stream, timer, event, inner.fileno(), late.fileno()):
        outer.register(fd, EDGE)
    inner.register(event, EDGE)
    late.register(pipes[1][0], EDGE)
    for _, writer in pipes[:2]:
        os.write(writer, b"x")
    other.send(b"x")
    assert len(outer.poll(0)) == 6 and outer.poll(0) == []
    outer.register(pipes[2][0], IN)  # this one waits all the time
    outer.register(pipes[3][0], EDGE)  # and this one has not been reported yet
    os.write(pipes[2][1], b"x")
    os.write(pipes[3][1], b"x")
    reader, writer = os.pipe()
    pid = child(lambda: os.read(reader, 1) and os.write(pipes[0][1], b"y") and 5)
    if checkpoint():
        os.write(pipes[0][1], b"y")
    assert sorted(outer.poll(0)) == [(pipes[2][0], 1), (pipes[3][0], 1)], "an edge came twice, or not at all"
    assert outer.poll(0) == [(pipes[2][0], 1)]
    assert late.poll(0) == [(pipes[1][0], 1)] and late.poll(0) == []
    assert inner.poll(0) == [(event, 1)] and inner.poll(0) == []
    os.write(writer, b"x")
    assert exit_code(pid) == 5
    assert sorted(outer.poll(0)) == sorted([(pipes[0][0], 1), (pipes[2][0], 1)])
    assert os.read(timer, 8)[0] == 1 and stream.recv(9) == b"x"


run(main)
