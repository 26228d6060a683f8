"""epoll on every kind of file that can be polled, watches for nothing, duplicates, busy polling, an armed one-shot."""

import fcntl
import os
import pty
import select
import socket
import struct
from pathlib import Path

from target_api import checkpoint, libc, run

EPIOCSPARAMS, EPIOCGPARAMS = 0x40088A01, 0x80088A02


def watches(epoll):
    lines = Path(f"/proc/self/fdinfo/{epoll.fileno()}").read_text().splitlines()
    return sorted(line.split("pos")[0] for line in lines if line.startswith("tfd"))


def kinds():
    listener, datagrams = socket.socket(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen(1)
    return [
        libc.eventfd(3, 0), libc.timerfd_create(1, 0), libc.inotify_init1(0), os.pidfd_open(os.getpid()),
        libc.signalfd(-1, struct.pack("<Q", 1 << 9), 0), listener.detach(), datagrams.detach(),
        *pty.openpty(), os.open("/proc/self/mounts", os.O_RDONLY), *os.pipe(),
    ]  # fmt: skip


def main():
    epoll, nothing, spent = select.epoll(), select.epoll(), select.epoll()
    for fd in kinds():
        epoll.register(fd, select.EPOLLIN | select.EPOLLOUT | select.EPOLLPRI)
    reader, writer = os.pipe()
    same, closed = os.dup(reader), fcntl.fcntl(reader, fcntl.F_DUPFD, 560)
    for fd in (reader, same, closed):
        epoll.register(fd, select.EPOLLIN)
    os.close(closed)
    os.write(writer, b"x")
    hung, other = os.pipe()
    nothing.register(hung, 0)
    os.close(other)
    spent.register(reader, select.EPOLLIN | select.EPOLLONESHOT)
    assert spent.poll(0) == [(reader, select.EPOLLIN)]
    params = struct.pack("<IHBB", 77, 8, 0, 0)
    try:
        fcntl.ioctl(epoll.fileno(), EPIOCSPARAMS, params)
    except OSError:  # before Linux 6.9
        params = b""
    before = sorted(epoll.poll(0)), watches(epoll), watches(spent)
    if checkpoint():
        epoll.modify(reader, select.EPOLLPRI)
    assert before == (sorted(epoll.poll(0)), watches(epoll), watches(spent))
    assert {epoll.poll(0, 1)[0] for _ in range(4 * len(before[0]))} == set(before[0]), "each gets its turn"
    assert nothing.poll(0) == [(hung, select.EPOLLHUP)] and spent.poll(0) == []
    spent.modify(reader, select.EPOLLIN | select.EPOLLONESHOT)
    assert spent.poll(0) == [(reader, select.EPOLLIN)] and spent.poll(0) == []
    assert not params or fcntl.ioctl(epoll.fileno(), EPIOCGPARAMS, bytes(8)) == params


run(main)
