"""A POSIX message queue whose name is gone while it is open, with two descriptors in two tasks."""

import ctypes
import os

from target_api import Skip, call, checkpoint, child, exit_code, libc, run, wait_for_go


def main():
    name = f"/ckpt-target-{os.getpid()}".encode()
    attributes = (ctypes.c_long * 8)(0, 4, 32)
    try:
        queue = call("mq_open", name, os.O_RDWR | os.O_CREAT, 0o640, attributes)
    except OSError as error:
        raise Skip(f"no POSIX message queues: {error}") from error
    writer = call("mq_open", name, os.O_WRONLY | os.O_NONBLOCK)
    libc.mq_unlink(name)

    def other():
        wait_for_go()
        return libc.mq_send(writer, b"from the child", ctypes.c_size_t(14), 2)

    pid = child(other)
    if checkpoint():
        libc.mq_send(writer, b"x", ctypes.c_size_t(1), 9)
    room, priority = ctypes.create_string_buffer(32), ctypes.c_uint()
    size = libc.mq_receive(queue, room, ctypes.c_size_t(32), ctypes.byref(priority))
    assert (room.raw[:size], priority.value) == (b"from the child", 2), room.raw[:size]
    assert exit_code(pid) == 0
    assert libc.mq_open(name, os.O_RDONLY) in (-1, 0xFFFFFFFF)
    got = (ctypes.c_long * 8)()
    libc.mq_getattr(queue, got)
    assert got[:4] == [0, 4, 32, 0] and os.fstat(queue).st_mode & 0o777 == 0o640


run(main)
