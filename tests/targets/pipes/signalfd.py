"""signalfd with a pending signal and a mask."""

import ctypes
import os
import signal
import struct

from target_api import checkpoint, libc, run


def main():
    numbers = {signal.SIGUSR1, signal.SIGRTMIN + 3}
    signal.pthread_sigmask(signal.SIG_SETMASK, numbers)
    mask = (ctypes.c_ulong * 16)(sum(1 << (n - 1) for n in numbers))
    fd = libc.signalfd(-1, mask, 0o4000)
    os.kill(os.getpid(), signal.SIGUSR1)
    libc.sigqueue(os.getpid(), int(signal.SIGRTMIN + 3), ctypes.c_void_p(555))
    if checkpoint():
        os.read(fd, 128)
    one, two = os.read(fd, 128), os.read(fd, 128)
    assert struct.unpack_from("<IiiII", one)[0] == signal.SIGUSR1
    assert struct.unpack_from("<I", two)[0] == signal.SIGRTMIN + 3 and struct.unpack_from("<i", two, 44)[0] == 555
    os.kill(os.getpid(), signal.SIGUSR1)
    assert struct.unpack_from("<I", os.read(fd, 128))[0] == signal.SIGUSR1


run(main)
