"""Datagram sockets that are connected to one which has been connected elsewhere since, and what they sent before."""

import itertools
import os
import socket

from target_api import DIR, checkpoint, run


def box(name):
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind(name)
    return made


def sends(one):
    try:
        return one.send(b"later")
    except PermissionError:
        return None


def main():
    names = [f"\0ckpt-chain-{os.getpid()}-{n}" for n in range(3)] + [str(DIR / f"chain{n}") for n in range(3)]
    chain = [box(name) for name in names]
    for one, two in itertools.pairwise(chain):
        one.connect(two.getsockname())
        one.send(b"from one")
    left, right, other, early = (box(str(DIR / name)) for name in ("left", "right", "other", "early"))
    early.sendto(b"early", left.getsockname())
    other.connect(left.getsockname())
    other.send(b"other")
    right.connect(left.getsockname())
    right.send(b"right")
    left.connect(right.getsockname())
    left.send(b"left")
    early.close()
    peers = [one.getpeername() for one in [*chain[:-1], left, right, other]]
    if checkpoint():
        left.recv(9)
    for one in (left, right):
        one.setblocking(False)
    assert peers == [one.getpeername() for one in [*chain[:-1], left, right, other]]
    assert sends(other) is None, "it is not let in any more"
    wanted = [(b"early", "early"), (b"other", "other"), (b"right", "right")]
    assert [left.recvfrom(9) for _ in range(3)] == [(data, str(DIR / name)) for data, name in wanted]
    assert right.recvfrom(9) == (b"left", str(DIR / "left"))
    assert left.send(b"on") == right.send(b"and") - 1 == 2 and right.recv(9) == b"on" and left.recv(9) == b"and"
    for one, two in itertools.pairwise(chain):
        data, name = two.recvfrom(9)
        assert (data, name) == (b"from one", one.getsockname())
    assert [sends(one) for one in chain[:-1]] == [None] * (len(chain) - 2) + [5]


run(main)
