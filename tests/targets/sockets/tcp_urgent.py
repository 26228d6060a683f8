"""TCP urgent data: not read yet, in the middle, first and last; inline; read already; and SO_PEEK_OFF of TCP."""

import socket

from target_api import checkpoint, eventually, run

OOB = socket.MSG_OOB


def urgent(one):
    """The urgent byte, left where it is; b"" when there is none to be read."""
    try:
        return one.recv(1, OOB | socket.MSG_PEEK)
    except OSError:
        return b""


def everything(one, size):
    text = b""
    while len(text) < size:
        text += one.recv(1 << 20)
    return text


def main():
    server = socket.create_server(("127.0.0.1", 0))
    six = socket.create_server(("::1", 0), family=socket.AF_INET6)

    def pair(listener=server):
        client = socket.create_connection(listener.getsockname()[:2])
        client.settimeout(20)
        made, _ = listener.accept()
        made.settimeout(20)
        return client, made

    middle, first, last, inline, read = pair(), pair(six), pair(), pair(), pair()
    middle[0].send(b"before!", OOB)
    middle[0].send(b"after" * 10000)
    first[0].send(b"!", OOB)
    first[0].send(b"after")
    last[0].send(b"before!", OOB)
    inline[1].setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    inline[0].send(b"ab!", OOB)
    inline[0].send(b"cd")
    read[0].send(b"before!", OOB)
    eventually(lambda: urgent(read[1]) == b"!")
    assert read[1].recv(1, OOB) == b"!"
    read[0].send(b"after")
    peeking = pair()
    try:
        peeking[1].setsockopt(socket.SOL_SOCKET, 42, 3)  # SO_PEEK_OFF
        offset = 3
    except OSError:
        offset = 0  # before Linux 6.9
    peeking[0].send(b"0123456789")
    for one in (middle, first, last):
        eventually(lambda one=one: urgent(one[1]) == b"!")
    if checkpoint():
        middle[1].recv(1, OOB)
    assert peeking[1].recv(100, socket.MSG_PEEK) == b"0123456789"[offset:]
    assert peeking[1].recv(100) == b"0123456789"
    for one in (middle, first, last):
        assert urgent(one[1]) == b"!" and one[1].recv(1, OOB) == b"!"
    assert middle[1].recv(100) == b"before"
    assert everything(middle[1], 50000) == b"after" * 10000
    assert first[1].recv(100) == b"after"
    assert last[1].recv(100) == b"before"
    assert inline[1].recv(100) == b"ab" and everything(inline[1], 3) == b"!cd"
    assert everything(read[1], 11) == b"beforeafter"
    for client, made in (middle, first, last, inline, read, peeking):
        made.send(b"answer")
        assert client.recv(100) == b"answer"
        client.send(b"again!", OOB)
        client.send(b"more")
    eventually(lambda: urgent(middle[1]) == b"!")
    assert everything(inline[1], 10) == b"again!more"


run(main)
