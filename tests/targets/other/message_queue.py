"""POSIX message queues: with messages in their order, attributes and a name."""

import ctypes
import os

from target_api import Skip, call, checkpoint, libc, run


def main():
    name = f"/ckpt-target-{os.getpid()}".encode()
    attributes = (ctypes.c_long * 8)(0, 5, 64)
    try:
        queue = call("mq_open", name, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o600, attributes)
    except OSError as error:
        raise Skip(f"no POSIX message queues: {error}") from error
    try:
        for text, priority in ((b"low", 1), (b"high", 9), (b"low too", 1)):
            libc.mq_send(queue, text, ctypes.c_size_t(len(text)), priority)
        if checkpoint():
            libc.mq_send(queue, b"x", ctypes.c_size_t(1), 30)
        got, room, priority = [], ctypes.create_string_buffer(64), ctypes.c_uint()
        for _ in range(3):
            size = libc.mq_receive(queue, room, ctypes.c_size_t(64), ctypes.byref(priority))
            got.append((room.raw[:size], priority.value))
        assert got == [(b"high", 9), (b"low", 1), (b"low too", 1)], got
    finally:
        libc.mq_unlink(name)


run(main)
