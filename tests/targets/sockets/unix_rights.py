"""Descriptors in flight: a pipe with data, a file, and a socket whose peer is here."""

import array
import os
import socket

from target_api import DIR, checkpoint, run


def main():
    one, two = socket.socketpair()
    inner, kept = socket.socketpair()
    reader, writer = os.pipe()
    os.write(writer, b"in the pipe")
    file = os.open(DIR / "file", os.O_RDWR | os.O_CREAT)
    os.write(file, b"content")
    socket.send_fds(one, [b"take these"], [reader, file, inner.fileno()])
    os.close(reader)
    os.close(file)
    inner.close()
    kept.send(b"hidden")
    if checkpoint():
        os.write(writer, b"!")
    data, ancillary, _, _ = two.recvmsg(100, socket.CMSG_SPACE(12))
    assert data == b"take these"
    fds = array.array("i")
    fds.frombytes(ancillary[0][2])
    reader, file, inner = fds
    assert os.read(reader, 100) == b"in the pipe"
    assert os.lseek(file, 0, 1) == 7 and os.pread(file, 9, 0) == b"content"
    assert os.read(inner, 100) == b"hidden"


run(main)
