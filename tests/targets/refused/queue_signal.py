"""mq_notify with a signal, whose value the kernel hides."""

import ctypes
import os
import signal

from target_api import Skip, call, checkpoint, libc, run


class SigEvent(ctypes.Structure):
    _fields_ = [("value", ctypes.c_void_p), ("signo", ctypes.c_int), ("notify", ctypes.c_int), ("_", ctypes.c_int * 12)]


def main():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    name = f"/ckpt-target-{os.getpid()}".encode()
    try:
        queue = call("mq_open", name, os.O_RDWR | os.O_CREAT, 0o600, None)
    except OSError as error:
        raise Skip(f"no POSIX message queues: {error}") from error
    try:
        assert libc.mq_notify(queue, ctypes.byref(SigEvent(77, signal.SIGUSR1, 0))) == 0
        checkpoint()
        libc.mq_send(queue, b"x", ctypes.c_size_t(1), 1)
        info = signal.sigtimedwait({signal.SIGUSR1}, 20)
        assert info is not None and info.si_code == -3  # SI_MESGQ
    finally:
        libc.mq_unlink(name)


run(main)
