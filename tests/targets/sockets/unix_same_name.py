"""Sockets bound to one name each in its turn, or in its directory: who is connected to which, who waits where."""

import os
import socket

from target_api import DIR, checkpoint, run


def bound(kind, name):
    made = socket.socket(socket.AF_UNIX, kind)
    made.bind(name)
    return made


def connected(kind, name):
    made = socket.socket(socket.AF_UNIX, kind)
    made.connect(name)
    return made


def both(kind):
    """(socket, a client of it, whether its file stays): deleted, its successor, and one elsewhere."""
    name = f"name{int(kind)}"
    os.chdir(DIR / "folder")
    found = [bound(kind, name)]
    if kind != socket.SOCK_DGRAM:
        found[0].listen()
    clients = [connected(kind, name)]
    os.unlink(name)
    for folder in ("folder", "."):
        os.chdir(DIR / folder)
        found.append(bound(kind, name))
        if kind != socket.SOCK_DGRAM:
            found[-1].listen()
        clients.append(connected(kind, "./" + name))
    return found, clients


def target():
    (DIR / "folder").mkdir()
    kinds = (socket.SOCK_DGRAM, socket.SOCK_STREAM, socket.SOCK_SEQPACKET)
    sets = {kind: both(kind) for kind in kinds}
    accepted = {kind: [sets[kind][0][0].accept()[0]] for kind in kinds[1:]}  # the others wait
    for _servers, clients in sets.values():
        for number, client in enumerate(clients):
            client.send(b"before %d" % number)
    checkpoint()
    for kind, (servers, clients) in sets.items():
        ends = servers
        if kind != socket.SOCK_DGRAM:
            ends = accepted[kind] + [server.accept()[0] for server in servers[1:]]
        for number, (end, client) in enumerate(zip(ends, clients, strict=True)):
            assert end.recv(20) == b"before %d" % number
            client.send(b"after %d" % number)
            assert end.recv(20) == b"after %d" % number
            assert servers[number].getsockname() == f"name{int(kind)}"
        for folder, server in (("folder", servers[1]), (".", servers[2])):
            other = connected(kind, str(DIR / folder / f"name{int(kind)}"))
            end = server if kind == socket.SOCK_DGRAM else server.accept()[0]
            other.send(b"new")
            assert end.recv(20) == b"new"


run(target)
