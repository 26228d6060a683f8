"""Sockets of every family keep their user and group: a task that is not root may share the port of its own again."""

import os
import socket

from target_api import checkpoint, child, exit_code, run, wait_for_go

KINDS = [
    (socket.AF_INET, socket.SOCK_STREAM, 0),
    (socket.AF_INET6, socket.SOCK_DGRAM, 0),
    (socket.AF_UNIX, socket.SOCK_STREAM, 0),
    (socket.AF_UNIX, socket.SOCK_DGRAM, 0),
    (socket.AF_NETLINK, socket.SOCK_RAW, 0),
    (socket.AF_PACKET, socket.SOCK_RAW, 0),
    (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
]


def sharing(kind):
    one = socket.socket(socket.AF_INET, kind)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return one


def main():
    made = []
    for kind in KINDS:
        try:
            made.append(socket.socket(*kind))
        except PermissionError:
            continue
    listening = socket.create_server(("127.0.0.1", 0))
    made += [*socket.socketpair(), socket.create_connection(listening.getsockname()), listening.accept()[0], listening]
    if os.getuid() == 0:
        for n, one in enumerate(made):
            os.fchown(one.fileno(), 300 + n, 600 + n)
    owners = [(os.fstat(one.fileno()).st_uid, os.fstat(one.fileno()).st_gid) for one in made]
    reading, ready = os.pipe()

    def other():
        if os.getuid() == 0:
            os.setresgid(33, 33, 33)
            os.setresuid(33, 33, 33)
        old = [sharing(kind) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)]
        for one in old:
            one.bind(("127.0.0.1", 0))
        os.write(ready, b"x")
        wait_for_go()
        for one, kind in zip(old, (socket.SOCK_STREAM, socket.SOCK_DGRAM), strict=True):
            sharing(kind).bind(one.getsockname())

    pid = child(other)
    os.read(reading, 1)
    checkpoint()
    now = [(os.fstat(one.fileno()).st_uid, os.fstat(one.fileno()).st_gid) for one in made]
    assert now == owners, (now, owners)
    assert exit_code(pid) == 0


run(main)
