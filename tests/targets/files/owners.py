"""F_SETOWN with a process, a group and a thread, F_SETSIG, and O_ASYNC on a pipe that sends its signal."""

import fcntl
import os
import signal
import struct

from target_api import checkpoint, child, eventually, exit_code, forever, run

F_SETSIG, F_GETSIG, F_SETOWN_EX, F_GETOWN_EX = 10, 11, 15, 16


def main():
    seen = []
    number = signal.SIGRTMIN + 3
    signal.signal(number, lambda *_: seen.append(1))
    signal.signal(signal.SIGIO, lambda *_: seen.append(2))
    pid = child(forever)
    pipes = [os.pipe() for _ in range(4)]
    owners = [(0, os.getpid()), (1, os.getpid()), (2, os.getpgid(0)), (1, pid)]
    for (reader, _), owner in zip(pipes, owners, strict=True):
        fcntl.fcntl(reader, F_SETOWN_EX, struct.pack("ii", *owner))
    fcntl.fcntl(pipes[0][0], F_SETSIG, number)
    for reader, _ in pipes[:2]:
        fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    if checkpoint():
        fcntl.fcntl(pipes[3][0], F_SETOWN_EX, struct.pack("ii", 1, os.getpid()))
    found = [struct.unpack("ii", fcntl.fcntl(reader, F_GETOWN_EX, bytes(8))) for reader, _ in pipes]
    assert found == owners, (found, owners)
    assert [fcntl.fcntl(reader, F_GETSIG) for reader, _ in pipes] == [number, 0, 0, 0]
    assert fcntl.fcntl(pipes[0][0], fcntl.F_GETFL) & os.O_ASYNC
    os.write(pipes[0][1], b"x")
    eventually(lambda: seen == [1], f"the real-time signal, saw {seen}")
    os.write(pipes[1][1], b"x")
    eventually(lambda: seen == [1, 2], f"SIGIO, saw {seen}")
    os.kill(pid, 9)
    exit_code(pid)


run(main)
