"""Pipes that hold more than their size: a buffer that was spliced from a socket is as large as the socket's."""

import fcntl
import os
import select
import socket

from target_api import DIR, checkpoint, pattern, run

SIZE = 1 << 16


def filled(fd, data):
    """A full pipe, and how much of the data it has taken from a TCP connection; the rest is read from there."""
    server = socket.create_server(("127.0.0.1", 0))
    sender = socket.create_connection(server.getsockname())
    receiver, _ = server.accept()
    sender.setblocking(False)
    receiver.setblocking(False)
    sent = taken = 0
    while True:
        try:
            sent += sender.send(data[sent : sent + 30000])
        except BlockingIOError:
            pass
        try:
            taken += os.splice(receiver.fileno(), fd, len(data), flags=os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            # What was sent may be still on its way: that the connection has nothing is no sign of a full pipe.
            if taken > SIZE and not select.select([], [fd], [], 0)[1]:
                break
    for end in (server, sender, receiver):
        end.close()
    return taken


def main():
    data = pattern(1, 4 << 20)
    reader, writer = os.pipe()
    os.mkfifo(DIR / "fifo")
    fifo = os.open(DIR / "fifo", os.O_RDWR)
    taken = filled(writer, data)
    assert fcntl.fcntl(reader, fcntl.F_GETPIPE_SZ) == SIZE < taken
    taken_by_fifo = filled(fifo, data)
    if checkpoint():
        os.read(reader, 1)
    for fd, count in ((reader, taken), (fifo, taken_by_fifo)):
        os.set_blocking(fd, False)
        assert fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) == SIZE
        assert not select.select([], [writer if fd == reader else fd], [], 0)[1], "it is not full any more"
        got = b""
        while len(got) < count:
            got += os.read(fd, 1 << 20)
        assert got == data[:count], (len(got), count)
        try:
            assert not os.read(fd, 1)
        except BlockingIOError:
            pass


run(main)
