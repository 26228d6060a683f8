"""mq_notify with SIGEV_NONE: a registration that only keeps others out, until a message comes."""

import ctypes
import os

from target_api import Skip, call, checkpoint, child, exit_code, libc, run

SIGEV_NONE = 1


class SigEvent(ctypes.Structure):
    _fields_ = [
        ("value", ctypes.c_void_p),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("pad", ctypes.c_int * 12),
    ]


def main():
    name = f"/ckpt-target-{os.getpid()}".encode()
    try:
        queue = call("mq_open", name, os.O_RDWR | os.O_CREAT, 0o600, None)
    except OSError as error:
        raise Skip(f"no POSIX message queues: {error}") from error
    event = ctypes.byref(SigEvent(0, 0, SIGEV_NONE))
    try:
        other = call("mq_open", name, os.O_RDONLY)
        assert libc.mq_notify(other, event) == 0
        if checkpoint():
            libc.mq_notify(other, None)
        assert libc.mq_notify(queue, event) == -1, "nobody is registered"
        pid = child(lambda: libc.mq_send(queue, b"hello", ctypes.c_size_t(5), 2))
        assert exit_code(pid) == 0
        assert libc.mq_notify(queue, event) == 0, "the registration outlived a message"
    finally:
        libc.mq_unlink(name)


run(main)
