"""F_SETOWN and F_SETSIG with O_ASYNC: a signal comes when data does."""

import fcntl
import os
import signal
import socket

from target_api import checkpoint, eventually, run


def main():
    seen = []
    number = signal.SIGRTMIN + 8
    signal.signal(number, lambda *_: seen.append(1))
    one, two = socket.socketpair()
    fcntl.fcntl(one, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(one, 10, number)
    fcntl.fcntl(one, fcntl.F_SETFL, fcntl.fcntl(one, fcntl.F_GETFL) | os.O_ASYNC)
    if checkpoint():
        fcntl.fcntl(one, 10, 0)
    assert fcntl.fcntl(one, fcntl.F_GETOWN) == os.getpid() and fcntl.fcntl(one, 11) == number
    two.send(b"x")
    eventually(lambda: seen, "the signal")


run(main)
