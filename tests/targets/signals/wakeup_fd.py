"""signal.set_wakeup_fd: the number arrives in the socket."""

import os
import signal
import socket

from target_api import checkpoint, run


def main():
    one, two = socket.socketpair()
    one.setblocking(False)
    signal.signal(signal.SIGUSR1, lambda *_: None)
    signal.set_wakeup_fd(one.fileno())
    os.kill(os.getpid(), signal.SIGUSR1)
    if checkpoint():
        one.send(b"x")
    os.kill(os.getpid(), signal.SIGUSR1)
    two.settimeout(60)
    assert two.recv(1) + two.recv(1) == bytes([signal.SIGUSR1] * 2)
    two.settimeout(0)
    try:
        two.recv(1)
    except BlockingIOError:
        return
    raise AssertionError("more than was sent")


run(main)
