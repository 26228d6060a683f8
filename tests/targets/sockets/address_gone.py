"""Sockets bound to addresses that the host does not have: IP_FREEBIND, also turned off since."""

import socket

from target_api import checkpoint, run

HOSTS = {socket.AF_INET: "10.99.99.9", socket.AF_INET6: "fd00:dead::1"}
FREEBIND = {socket.AF_INET: (0, 15), socket.AF_INET6: (41, 78)}


def make(family, kind, still):
    made = socket.socket(family, kind)
    made.setsockopt(*FREEBIND[family], 1)
    made.bind((HOSTS[family], 0))
    if kind == socket.SOCK_STREAM:
        made.listen(3)
    made.setsockopt(*FREEBIND[family], still)
    return made


def main():
    everything = [make(f, k, s) for f in HOSTS for k in (socket.SOCK_STREAM, socket.SOCK_DGRAM) for s in (0, 1)]

    def view():
        return [(one.getsockname(), one.getsockopt(*FREEBIND[one.family])) for one in everything]

    before = view()
    if checkpoint():
        everything[0].setsockopt(0, 15, 1)
    assert view() == before, (before, view())


run(main)
