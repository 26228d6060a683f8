"""A receiver with a tiny buffer and a sender whose buffer the kernel has let grow: megabytes that were never sent."""

import socket

from target_api import checkpoint, pattern, run

CHUNK = pattern(1, 1 << 16)


def pair(family, host):
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    listener.bind((host, 0))
    listener.listen()
    sender = socket.socket(family)
    sender.connect(listener.getsockname())
    receiver = listener.accept()[0]
    sender.setblocking(False)
    sent = 0
    try:
        while True:
            sent += sender.send(CHUNK[sent % len(CHUNK) :])
    except BlockingIOError:
        return sender, receiver, sent


def target():
    pairs = [pair(socket.AF_INET, "127.0.0.1"), pair(socket.AF_INET6, "::1")]
    checkpoint()
    for sender, receiver, sent in pairs:
        assert receiver.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 4096
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        got = 0
        while got < sent:
            data = receiver.recv(min(sent - got, len(CHUNK) - got % len(CHUNK)))
            at = got % len(CHUNK)
            assert data and data == CHUNK[at : at + len(data)]
            got += len(data)
        sender.send(b"more")
        assert receiver.recv(10) == b"more"


run(target)
