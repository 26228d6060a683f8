"""A socket of a network namespace that its task has left."""

import ctypes
import os
import socket

from target_api import checkpoint, run


def main():
    here = os.open("/proc/self/ns/net", os.O_RDONLY)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(0x40000000) == 0
    made = socket.socket()
    assert libc.setns(here, 0) == 0
    os.close(here)
    checkpoint()
    assert made.fileno() >= 0


run(main)
