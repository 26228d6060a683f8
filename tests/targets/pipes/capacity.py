"""Pipes of several sizes, full to the last byte, half empty, shrunk to one page; packets of several sizes."""

import fcntl
import os

from target_api import PAGE, checkpoint, pattern, run

F_SETPIPE_SZ, F_GETPIPE_SZ = 1031, 1032


def fill(fd, size):
    os.set_blocking(fd, False)
    done = 0
    try:
        while done < size:
            done += os.write(fd, pattern(7, size)[done:])
    except BlockingIOError:
        pass
    os.set_blocking(fd, True)
    return done


def main():
    sizes = [PAGE, 4 * PAGE, 1 << 20, 1 << 16]
    pipes = [os.pipe() for _ in sizes]
    for (_, writer), size in zip(pipes, sizes, strict=True):
        fcntl.fcntl(writer, F_SETPIPE_SZ, size)
    held = [fill(writer, 2 * size) for (_, writer), size in zip(pipes, sizes, strict=True)]
    os.read(pipes[2][0], 1 << 19)
    packets = os.pipe2(os.O_DIRECT)
    for size in (1, 100, PAGE, 3, 4 * PAGE):
        os.write(packets[1], pattern(size, size))
    if checkpoint():
        os.read(pipes[0][0], 1)
    assert [fcntl.fcntl(reader, F_GETPIPE_SZ) for reader, _ in pipes] == sizes
    assert held[:2] == sizes[:2]
    for n, (reader, writer) in enumerate(pipes):
        os.close(writer)
        data = b""
        while more := os.read(reader, 1 << 21):
            data += more
        whole = pattern(7, 2 * sizes[n])[: held[n]]
        assert data == (whole[1 << 19 :] if n == 2 else whole), (n, len(data))
    got = [os.read(packets[0], 1 << 16) for _ in range(8)]
    assert b"".join(got) == b"".join(pattern(size, size) for size in (1, 100, PAGE, 3, 4 * PAGE))
    assert [len(data) for data in got] == [1, 100, PAGE, 3] + [PAGE] * 4


run(main)
