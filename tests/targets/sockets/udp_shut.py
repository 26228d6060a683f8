"""UDP sockets that are shut without ever having been connected, as one wakes a thread that waits in recv."""

import errno
import select
import socket

from target_api import checkpoint, run


def shut(family, address, how):
    one = socket.socket(family, socket.SOCK_DGRAM)
    one.bind((address, 0))
    one.sendto(b"waits", one.getsockname())
    try:
        one.shutdown(how)
    except OSError as error:
        assert error.errno == errno.ENOTCONN
    return one


def seen(one):
    poller = select.poll()
    poller.register(one, 0x3FFF)
    return poller.poll(0)


def main():
    every = [
        shut(family, address, how)
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
        for how in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR)
    ]
    before = [seen(one) for one in every]
    if checkpoint():
        every[0].recv(10)
    assert [seen(one) for one in every] == before
    for number, one in enumerate(every):
        assert one.recv(10) == b"waits"
        if number % 3 != 1:
            assert one.recv(10) == b""
        if number % 3:
            try:
                one.sendto(b"x", one.getsockname())
                raise AssertionError("it can send")
            except BrokenPipeError:
                pass


run(main)
