"""POSIX message queues: several descriptors with flags of their own, tasks that wait to receive and to send."""

import ctypes
import os

from target_api import Skip, asleep, call, checkpoint, child, exit_code, libc, run


def send(queue, text, priority=1):
    return libc.mq_send(queue, text, ctypes.c_size_t(len(text)), priority)


def receive(queue):
    room, priority = ctypes.create_string_buffer(64), ctypes.c_uint()
    size = libc.mq_receive(queue, room, ctypes.c_size_t(64), ctypes.byref(priority))
    return room.raw[:size], priority.value


def flags(queue):
    attributes = (ctypes.c_long * 8)()
    libc.mq_getattr(queue, attributes)
    return attributes[:4]


def main():
    names = [f"/ckpt-target-{os.getpid()}-{n}".encode() for n in range(2)]
    attributes = (ctypes.c_long * 8)(0, 2, 64)
    try:
        queues = [call("mq_open", name, os.O_RDWR | os.O_CREAT, 0o600, attributes) for name in names]
    except OSError as error:
        raise Skip(f"no POSIX message queues: {error}") from error
    try:
        reader = call("mq_open", names[1], os.O_RDONLY | os.O_NONBLOCK)
        for n in range(2):
            send(queues[1], b"%d" % n)
        pids = [child(lambda: len(receive(queues[0])[0])), child(lambda: send(queues[1], b"late", 0) + 3)]
        asleep(*pids)
        if checkpoint():
            receive(reader)
        assert [os.waitpid(pid, os.WNOHANG)[0] for pid in pids] == [0, 0]
        assert flags(queues[0]) == [0, 2, 64, 0] and flags(reader) == [os.O_NONBLOCK, 2, 64, 2]
        send(queues[0], b"seventeen letters")
        assert receive(reader) == (b"0", 1)
        assert [exit_code(pid) for pid in pids] == [17, 3]
        assert [receive(reader) for _ in range(2)] == [(b"1", 1), (b"late", 0)]
    finally:
        for name in names:
            libc.mq_unlink(name)


run(main)
