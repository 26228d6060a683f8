"""epoll entries whose descriptor was closed while a dup lives on, and one whose number is another file now."""

import os
import select

from target_api import checkpoint, run


def main():
    epoll = select.epoll()
    first, second = os.pipe(), os.pipe()
    epoll.register(first[0], select.EPOLLIN)
    keep = os.dup(first[0])
    os.close(first[0])
    os.dup2(second[0], first[0])
    if checkpoint():
        os.close(keep)
    os.write(first[1], b"x")
    assert epoll.poll(1) == [(first[0], select.EPOLLIN)]
    assert os.read(keep, 1) == b"x" and epoll.poll(0) == []


run(main)
