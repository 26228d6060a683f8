"""Message queues whose names are gone, with messages of several priorities, short, empty and long."""

import ctypes
import os

from target_api import Skip, call, checkpoint, libc, pattern, run


def main():
    name = f"/ckpt-target-{os.getpid()}".encode()
    queues, sent = [], []
    for n in range(3):
        attributes = (ctypes.c_long * 8)(0, 10, 8192)
        try:
            queues.append(call("mq_open", name, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o640, attributes))
        except OSError as error:
            raise Skip(f"no POSIX message queues: {error}") from error
        libc.mq_unlink(name)
        messages = [(priority, b"%d of %d" % (k, n)) for k, priority in enumerate((3, 9, 3, 0, 32000, 9)[: n * 3])]
        messages += [(3, b""), (5, pattern(n, 8192)), (5, pattern(n, 4048)), (5, pattern(n, 4049))] if n else []
        for priority, data in messages:
            assert libc.mq_send(queues[-1], data, ctypes.c_size_t(len(data)), priority) == 0
        sent.append(sorted(messages, key=lambda message: -message[0]))
    if checkpoint():
        libc.mq_send(queues[0], b"x", ctypes.c_size_t(1), 1)
    room, priority = ctypes.create_string_buffer(8192), ctypes.c_uint()
    for queue, messages in zip(queues, sent, strict=True):
        got = []
        while (size := libc.mq_receive(queue, room, ctypes.c_size_t(8192), ctypes.byref(priority))) >= 0:
            got.append((priority.value, room.raw[:size]))
        assert got == messages, ([(p, d[:20]) for p, d in got], [(p, d[:20]) for p, d in messages])


run(main)
