"""Datagram sockets: many connected to one, one to itself, in a chain, disconnected, to a deleted name, shut down."""

import errno
import os
import socket

from target_api import DIR, checkpoint, run


def box(name=None, to=None):
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    if name:
        made.bind(str(DIR / name))
    if to:
        made.connect(str(DIR / to))
    return made


def main():
    hub = box("hub")
    spokes = [box(to="hub") for _ in range(3)]
    mirror = box("mirror")
    mirror.connect(str(DIR / "mirror"))
    mirror.send(b"to myself")
    chain = [box(f"chain{n}") for n in range(3)]
    for n, one in enumerate(chain[:2]):
        one.connect(str(DIR / f"chain{n + 1}"))
        one.send(b"chain %d" % n)
    hidden = box("hidden")
    follower = box(to="hidden")
    os.unlink(DIR / "hidden")
    follower.send(b"before")
    shut = box("shut")
    shut.shutdown(socket.SHUT_RD)
    free = box(to="hub")
    free.connect_ex(b"")
    spokes[0].send(b"zero")
    if checkpoint():
        hub.recv(1)
    for n, spoke in enumerate(spokes):
        spoke.send(b"spoke %d" % n)
    assert [hub.recv(20) for _ in range(4)] == [b"zero", b"spoke 0", b"spoke 1", b"spoke 2"]
    assert mirror.recvfrom(20) == (b"to myself", str(DIR / "mirror"))
    mirror.send(b"again")
    assert mirror.recv(10) == b"again"
    for n in range(2):
        assert chain[n + 1].recvfrom(20) == (b"chain %d" % n, str(DIR / f"chain{n}"))
    try:
        chain[0].send(b"x")
    except PermissionError:
        chain[1].send(b"x")
    else:
        raise AssertionError("a connected socket took a stranger's datagram")
    follower.send(b"after")
    assert [hidden.recv(10), hidden.recv(10)] == [b"before", b"after"]
    try:
        box().sendto(b"x", str(DIR / "shut"))
    except OSError as error:
        assert error.errno == errno.EPIPE
    else:
        raise AssertionError("sent to a socket that is shut")


run(main)
