"""UDP sockets that were refused and have not heard of it: SO_ERROR, and the error queue (IP_RECVERR, IPV6_RECVERR)."""

import errno
import select
import socket
import time

from target_api import checkpoint, run

S = socket.SOL_SOCKET


def nobody(family, host):
    """A socket at whose address nobody gets anything, for it is connected to itself, nor can take it."""
    one = socket.socket(family, socket.SOCK_DGRAM)
    one.bind((host, 0))
    one.connect(one.getsockname())
    return one


def refused(family, host, recverr, connect=True):
    one = socket.socket(family, socket.SOCK_DGRAM)
    if recverr:
        one.setsockopt(*((socket.IPPROTO_IP, 11) if family == socket.AF_INET else (socket.IPPROTO_IPV6, 25)), 1)
    holder = nobody(family, host)
    address = holder.getsockname()
    if connect:
        one.connect(address)
    one.sendto(b"is anybody there", address)
    poller = select.poll()
    poller.register(one, 0)
    end = time.monotonic() + 20
    while not poller.poll(0):
        assert time.monotonic() < end, "not refused"
    holder.close()
    return one


def main():
    four, six = (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")
    plain, plain6 = refused(*four, False), refused(*six, False)
    told, told6, loose = refused(*four, True), refused(*six, True), refused(*four, True, connect=False)
    heard = refused(*four, True)
    assert heard.getsockopt(S, socket.SO_ERROR) == errno.ECONNREFUSED
    inbox = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    inbox.bind(("127.0.0.1", 0))
    everything = [plain, plain6, told, told6, loose, heard]
    names = [one.getsockname() for one in everything]
    if checkpoint():
        plain.getsockopt(S, socket.SO_ERROR)
    assert [one.getsockname() for one in everything] == names
    for one in (told, told6, loose, heard):
        data, control, flags, _ = one.recvmsg(100, 500, socket.MSG_ERRQUEUE)
        ((_, _, body),) = control
        assert data == b"is anybody there" and flags & socket.MSG_ERRQUEUE, (data, flags)
        assert int.from_bytes(body[:4], "little") == errno.ECONNREFUSED, body
        try:
            one.recvmsg(100, 500, socket.MSG_ERRQUEUE)
        except BlockingIOError:
            continue
        raise AssertionError("told twice")
    for one in (plain, plain6):
        assert one.getsockopt(S, socket.SO_ERROR) == errno.ECONNREFUSED
    assert [one.getsockopt(S, socket.SO_ERROR) for one in everything] == [0] * 6
    told.connect(inbox.getsockname())
    told.send(b"hello")
    assert inbox.recv(10) == b"hello"


run(main)
