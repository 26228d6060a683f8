"""Queued real-time signals in their order, with their values."""

import ctypes
import os
import signal

from target_api import checkpoint, libc, run


class Info(ctypes.Structure):
    _fields_ = [("signo", ctypes.c_int), ("errno", ctypes.c_int), ("code", ctypes.c_int), ("pad", ctypes.c_int)]
    _fields_ += [("pid", ctypes.c_int), ("uid", ctypes.c_int), ("value", ctypes.c_long), ("rest", ctypes.c_char * 96)]


def main():
    number, other = signal.SIGRTMIN + 2, signal.SIGRTMIN + 3
    signal.pthread_sigmask(signal.SIG_SETMASK, {number, other})
    for value in (11, 22, 33):
        libc.sigqueue(os.getpid(), int(number), ctypes.c_void_p(value))
    libc.sigqueue(os.getpid(), int(other), ctypes.c_void_p(1 << 40))
    if checkpoint():
        signal.sigwait({number})
    values = []
    mask = (ctypes.c_ulong * 16)(1 << (number - 1) | 1 << (other - 1))
    for _ in range(4):
        info = Info()
        assert libc.sigtimedwait(mask, ctypes.byref(info), (ctypes.c_long * 2)(0, 0)) > 0, values
        assert (info.code, info.pid) == (-1, os.getpid())
        values.append(info.value)
    assert values == [11, 22, 33, 1 << 40], values
    assert not signal.sigpending()


run(main)
