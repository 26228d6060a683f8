"""Listeners that are shut, sockets shut that were never connected, SO_PASSCRED without a name, peers that are closed
while their socket file is there, a name for sockets of two types."""

import os
import select
import socket

from target_api import DIR, checkpoint, run

S, TYPES = socket.SOL_SOCKET, (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM)


def events(one):
    poller = select.poll()
    poller.register(one, 0x3FFF)
    return poller.poll(0)[0][1]


def listening(kind, name):
    one = socket.socket(socket.AF_UNIX, kind)
    one.bind(name)
    one.listen(4)
    return one


def refused(kind, name):
    with socket.socket(socket.AF_UNIX, kind) as one:
        try:
            one.connect(name)
        except ConnectionRefusedError:
            return True
    return False


def main():
    shut, idle, unnamed, named, widows = [], [], [], [], []
    for number, kind in enumerate(TYPES):
        idle.append(socket.socket(socket.AF_UNIX, kind))
        idle[-1].shutdown(socket.SHUT_RD)
        one, two = socket.socketpair(socket.AF_UNIX, kind)
        two.send(b"sent")
        one.send(b"received")
        two.setsockopt(S, socket.SO_PASSCRED, 1)
        unnamed += [one, two]
        if kind == socket.SOCK_DGRAM:
            continue
        name = str(DIR / f"shut{number}")
        client = socket.socket(socket.AF_UNIX, kind)
        shut.append(listening(kind, name))
        client.connect(name)
        shut[-1].shutdown(socket.SHUT_RDWR)
        named += [client, *socket.socketpair(socket.AF_UNIX, kind)]
        named[-1].bind(f"\0ckpt-rare-{os.getpid()}")
        with listening(kind, str(DIR / f"file{number}")) as server:
            widows.append(socket.socket(socket.AF_UNIX, kind))
            widows[-1].connect(str(DIR / f"file{number}"))
            server.accept()[0].close()
        (DIR / f"file{number}").chmod(0o640)
    every = [*idle, *shut, *unnamed, *named, *widows]
    before = [(events(one), one.getsockname()) for one in every], sorted(os.listdir(DIR))
    if checkpoint():
        unnamed[0].recv(1)
    after = [(events(one), one.getsockname()) for one in every], sorted({*os.listdir(DIR)} - {"ready", "go"})
    assert before[0] == after[0], [pair for pair in zip(before[0], after[0], strict=True) if pair[0] != pair[1]]
    assert before[1] == after[1], after[1]
    for number, (listener, widow) in enumerate(zip(shut, widows, strict=True)):
        assert refused(listener.type, str(DIR / f"shut{number}")) and widow.getpeername() == str(DIR / f"file{number}")
        assert os.stat(DIR / f"file{number}").st_mode & 0o777 == 0o640
    for one, two in zip(unnamed[::2], unnamed[1::2], strict=True):
        assert one.recvmsg(9, 100)[:2] == (b"sent", [])
        data, ((_, kind, _credentials),), _, name = two.recvmsg(9, 100)
        assert data == b"received" and kind == socket.SCM_CREDENTIALS and not name and not one.getsockname()


run(main)
