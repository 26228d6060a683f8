"""Three epoll sets inside each other, a watched number that is closed, one that another file has now, a child's set."""

import os
import select

from target_api import checkpoint, child, exit_code, run


def main():
    inner, middle, outer = select.epoll(), select.epoll(), select.epoll()
    reader, writer = os.pipe()
    other, more = os.pipe()
    inner.register(reader, select.EPOLLIN)
    middle.register(inner, select.EPOLLIN)
    outer.register(middle, select.EPOLLIN)
    outer.register(other, select.EPOLLIN)
    kept = os.dup(other)
    os.close(other)
    pid = child(lambda: outer.poll(3000)[0][0])
    if checkpoint():
        inner.unregister(reader)
    assert outer.poll(0) == []
    os.write(writer, b"x")
    assert exit_code(pid) == middle.fileno()
    assert outer.poll(0) == [(middle.fileno(), select.EPOLLIN)]
    os.read(reader, 1)
    os.write(more, b"y")
    assert outer.poll(0) == [(other, select.EPOLLIN)]
    os.close(kept)
    assert outer.poll(0) == []


run(main)
