"""epoll watches a file that is in flight in a socket and open nowhere else, and one that is open elsewhere, too."""

import os
import select
import socket

from target_api import checkpoint, run


def target():
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    watcher = select.epoll()
    counter = os.eventfd(1)
    reader, writer = os.pipe()
    for fd in (counter, reader):
        watcher.register(fd, select.EPOLLIN)
    again = os.dup(reader)
    numbers = counter, reader
    socket.send_fds(sender, [b"two"], numbers)
    for fd in numbers:
        os.close(fd)
    checkpoint()
    assert watcher.poll(0) == [(counter, select.EPOLLIN)]
    os.write(writer, b"x")
    assert sorted(watcher.poll(0)) == sorted((fd, select.EPOLLIN) for fd in numbers)
    came = socket.recv_fds(receiver, 10, 2)[1]
    assert os.eventfd_read(came[0]) == 1
    assert watcher.poll(0) == [(reader, select.EPOLLIN)]
    os.close(again)
    assert os.read(came[1], 5) == b"x"
    for fd in came:
        os.close(fd)
    assert watcher.poll(0) == []


run(target)
