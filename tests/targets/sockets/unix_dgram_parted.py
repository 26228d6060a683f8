"""Datagram socketpairs whose one end has been connected elsewhere, with and without what waits and is lost by that."""

import errno
import socket

from target_api import DIR, checkpoint, run


def pair():
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)


def named(name):
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind(str(DIR / name))
    return made


def error_of(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return error.errno
    return 0


def main():
    elsewhere = named("elsewhere")
    quiet, gone = pair()
    quiet.send(b"unread")  # and lost when `gone` leaves, of which `quiet` hears
    gone.send(b"before")
    gone.connect(str(DIR / "elsewhere"))
    silent, left = pair()
    left.send(b"before")
    left.bind(str(DIR / "left"))
    left.connect(str(DIR / "elsewhere"))  # nothing is lost: nobody hears of it
    widow, closed = pair()
    closed.bind(str(DIR / "closed"))
    closed.send(b"from the closed one")
    closed.close()
    chained, middle = pair()
    end, other = pair()
    end.bind(str(DIR / "end"))
    other.close()
    assert error_of(end.send, b"x") == errno.ECONNREFUSED
    middle.connect(str(DIR / "end"))
    if checkpoint():
        quiet.close()
    assert error_of(quiet.recv, 9) == errno.ECONNRESET
    assert quiet.recv(9) == silent.recv(9) == b"before"
    for alone, parted in ((quiet, gone), (silent, left)):
        assert error_of(alone.send, b"x") == errno.EPERM
        parted.send(b"hello")
        assert elsewhere.recv(9) == b"hello"
    assert elsewhere.sendto(b"back", str(DIR / "left")) and left.recvfrom(9) == (b"back", str(DIR / "elsewhere"))
    assert widow.recvfrom(30) == (b"from the closed one", str(DIR / "closed"))
    assert error_of(widow.send, b"x") == errno.ECONNREFUSED
    middle.send(b"through")
    assert end.recv(9) == b"through" and error_of(chained.send, b"x") == errno.EPERM


run(main)
