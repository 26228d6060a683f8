"""UDP sockets fresh, bound, connected, disconnected, shut down, sharing a port, to themselves; with queues."""

import errno
import socket

from target_api import checkpoint, run

S = socket.SOL_SOCKET


def box(host="127.0.0.1", port=0, **options):
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    for name, value in options.items():
        made.setsockopt(S, getattr(socket, name), value)
    made.bind((host, port))
    return made


def main():
    fresh = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    hub = box()
    spokes = [box() for _ in range(3)]
    for n, spoke in enumerate(spokes):
        spoke.connect(hub.getsockname())
        spoke.send(b"spoke %d" % n)
    mirror = box()
    mirror.connect(mirror.getsockname())
    mirror.send(b"to myself")
    shut = box()
    shut.connect(hub.getsockname())
    shut.shutdown(socket.SHUT_WR)
    deaf = box()
    deaf.connect(hub.getsockname())
    deaf.shutdown(socket.SHUT_RD)
    free = box()
    free.connect(hub.getsockname())
    try:
        free.connect(("", 0, 0)) if False else free.connect_ex(("0.0.0.0", 0))
    except OSError:
        pass
    shared = [box(port=0, SO_REUSEPORT=1)]
    shared.append(box(port=shared[0].getsockname()[1], SO_REUSEPORT=1))
    wild = box("::")
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.sendto(b"mapped", ("127.0.0.1", wild.getsockname()[1]))
    everywhere = box("0.0.0.0")
    sender.sendto(b"wild", ("127.0.0.2", everywhere.getsockname()[1]))
    everything = [fresh, hub, *spokes, mirror, shut, deaf, *shared, wild, sender, everywhere]
    names = [one.getsockname() for one in everything]
    if checkpoint():
        hub.recv(1)
    assert [one.getsockname() for one in everything] == names, names
    for n, spoke in enumerate(spokes):
        assert hub.recvfrom(100) == (b"spoke %d" % n, spoke.getsockname())
        hub.sendto(b"reply %d" % n, spoke.getsockname())
        assert spoke.recv(100) == b"reply %d" % n
    assert mirror.recvfrom(100) == (b"to myself", mirror.getsockname())
    try:
        shut.send(b"x")
    except OSError as error:
        assert error.errno == errno.EPIPE
    else:
        raise AssertionError("sent after shutdown")
    assert deaf.recv(10) == b""
    assert wild.recvfrom(100)[0] == b"mapped"
    assert everywhere.recvfrom(100) == (
        b"wild",
        sender.getsockname() if sender.getsockname()[0] != "0.0.0.0" else ("127.0.0.1", sender.getsockname()[1]),
    )
    fresh.sendto(b"first", hub.getsockname())
    assert hub.recv(10) == b"first"


run(main)
