"""A slave whose master is closed, a master whose slave was closed with output left, one never opened."""

import errno
import os
import pty
import select

from target_api import checkpoint, run


def raises(number, function, *args):
    try:
        function(*args)
    except OSError as error:
        return error.errno == number
    return False


def polled(fd):
    poller = select.poll()
    poller.register(fd, select.POLLIN | select.POLLOUT)
    return dict(poller.poll(0)).get(fd, 0)


def main():
    master, hung = pty.openpty()
    again = os.open(os.ttyname(hung), os.O_RDONLY | os.O_NOCTTY)
    os.close(master)
    spare = pty.openpty()  # its number comes after that of the one that is hung up
    left, slave = pty.openpty()
    os.write(slave, b"last words\n")
    os.close(slave)
    fresh = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
    before = [polled(fd) for fd in (hung, left, fresh)]
    device = os.fstat(hung).st_rdev
    if checkpoint():
        os.read(left, 100)
    assert [polled(fd) for fd in (hung, left, fresh)] == before
    assert [os.fstat(fd).st_rdev for fd in (hung, again)] == [device] * 2 and os.fstat(spare[1]).st_rdev == device + 1
    assert os.read(hung, 10) == b"" and raises(errno.EIO, os.write, hung, b"x")
    assert os.read(left, 100) == b"last words\r\n" and raises(errno.EIO, os.read, left, 10)
    assert not select.select([fresh], [], [], 0)[0]


run(main)
