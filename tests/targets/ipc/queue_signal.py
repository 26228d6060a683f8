"""mq_notify with a signal and its value, and with a thread of the C library."""

import ctypes
import os
import signal
import threading

from target_api import Skip, call, checkpoint, libc, run

SIGNAL, THREAD = 0, 2  # SIGEV_*
CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class SigEvent(ctypes.Structure):
    _fields_ = [
        ("value", ctypes.c_void_p),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("function", CALLBACK),
        ("_", ctypes.c_int * 10),
    ]


class SigInfo(ctypes.Structure):
    _fields_ = [("signo", ctypes.c_int), ("_", ctypes.c_int), ("code", ctypes.c_int), ("pad", ctypes.c_int)]
    _fields_ += [("pid", ctypes.c_int), ("uid", ctypes.c_int), ("value", ctypes.c_void_p), ("rest", ctypes.c_int * 24)]


def main():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    names = [f"/ckpt-target-{os.getpid()}-{n}".encode() for n in range(2)]
    try:
        first, second = (call("mq_open", name, os.O_RDWR | os.O_CREAT, 0o600, None) for name in names)
    except OSError as error:
        raise Skip(f"no POSIX message queues: {error}") from error
    called, values = threading.Event(), []

    @CALLBACK
    def arrived(value):
        values.append(value)
        called.set()

    try:
        assert libc.mq_notify(first, ctypes.byref(SigEvent(77, signal.SIGUSR1, SIGNAL))) == 0
        assert libc.mq_notify(second, ctypes.byref(SigEvent(88, 0, THREAD, arrived))) == 0
        if checkpoint():
            libc.mq_notify(first, None)
        libc.mq_send(first, b"x", ctypes.c_size_t(1), 1)
        info, mask = SigInfo(), (ctypes.c_ulong * 16)(1 << signal.SIGUSR1 - 1)
        assert libc.sigtimedwait(mask, ctypes.byref(info), (ctypes.c_long * 2)(20, 0)) == signal.SIGUSR1
        assert (info.code, info.value, info.pid) == (-3, 77, os.getpid()), (info.code, info.value)  # SI_MESGQ
        libc.mq_send(second, b"x", ctypes.c_size_t(1), 1)
        assert called.wait(20) and values == [88], values
    finally:
        for name in names:
            libc.mq_unlink(name)


run(main)
