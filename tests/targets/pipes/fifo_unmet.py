"""A FIFO's reader that has met no writer is not hung up, one whose writer has left is; in poll and in epoll."""

import os
import select

from target_api import DIR, checkpoint, run


def events(fd):
    poll = select.poll()
    poll.register(fd, select.POLLIN | select.POLLOUT)
    return dict(poll.poll(0)).get(fd, 0)


def reader(name):
    return os.open(DIR / name, os.O_RDONLY | os.O_NONBLOCK)


def main():
    for name in ("unmet", "left", "both"):
        os.mkfifo(DIR / name)
    unmet, left, first = reader("unmet"), reader("left"), reader("both")
    os.close(os.open(DIR / "left", os.O_WRONLY))
    writer = os.open(DIR / "both", os.O_WRONLY)
    os.write(writer, b"data")
    os.close(writer)
    second = reader("both")
    epoll = select.epoll()
    epoll.register(unmet, select.EPOLLIN | select.EPOLLET)
    before = [events(fd) for fd in (unmet, left, first, second)]
    assert before == [0, select.POLLHUP, select.POLLIN | select.POLLHUP, select.POLLIN]
    if checkpoint():
        os.close(os.open(DIR / "unmet", os.O_WRONLY))
    assert [events(fd) for fd in (unmet, left, first, second)] == before and epoll.poll(0) == []
    writer = os.open(DIR / "unmet", os.O_WRONLY)
    os.write(writer, b"x")
    assert epoll.poll(5) == [(unmet, select.EPOLLIN)] and os.read(unmet, 9) == b"x"
    os.close(writer)
    assert epoll.poll(5) == [(unmet, select.EPOLLHUP)] and events(unmet) == select.POLLHUP
    assert os.read(first, 9) == b"data" and os.read(unmet, 9) == b""


run(main)
