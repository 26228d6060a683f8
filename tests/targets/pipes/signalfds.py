"""signalfd: a mask that was changed, signals that wait with their values, a blocked reader, one shared with a child."""

import ctypes
import os
import signal
import struct

from target_api import asleep, checkpoint, child, exit_code, libc, run


def mask(*numbers):
    return struct.pack("<Q", sum(1 << (n - 1) for n in numbers))


def main():
    low, high = signal.SIGRTMIN + 1, signal.SIGRTMIN + 2
    signal.pthread_sigmask(signal.SIG_BLOCK, {low, high, signal.SIGUSR1, signal.SIGUSR2})
    fd = libc.syscall(289, -1, mask(signal.SIGUSR1), 8, 0o4000)
    assert libc.syscall(289, fd, mask(low, high, signal.SIGUSR2), 8, 0) == fd
    blocked = libc.syscall(289, -1, mask(signal.SIGUSR1), 8, 0)
    pid = child(lambda: os.read(blocked, 128)[0])
    libc.sigqueue.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long]
    for number, value in ((high, 1), (low, 2), (low, 3)):
        libc.sigqueue(os.getpid(), number, value)
    os.kill(os.getpid(), signal.SIGUSR1)
    asleep(pid)
    if checkpoint():
        os.read(fd, 128)
    data = os.read(fd, 128 * 10)
    got = [(data[n], struct.unpack_from("<i", data, n + 44)[0]) for n in range(0, len(data), 128)]
    assert got == [(low, 2), (low, 3), (high, 1)], got
    os.kill(pid, signal.SIGUSR1)
    assert exit_code(pid) == signal.SIGUSR1
    assert os.read(blocked, 128)[0] == signal.SIGUSR1


run(main)
