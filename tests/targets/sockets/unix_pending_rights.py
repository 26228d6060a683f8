"""Descriptors in flight, and with their sender: in Unix connections not accepted yet, and in one that was reset."""

import array
import os
import socket

from target_api import DIR, checkpoint, run


def received(connection, size=100):
    data, ancillary, _, _ = connection.recvmsg(size, socket.CMSG_SPACE(40))
    fds = array.array("i")
    for _, _, raw in ancillary:
        fds.frombytes(raw)
    return data, list(fds)


def main():
    stream, packets = (socket.socket(socket.AF_UNIX, kind) for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET))
    for server, name in ((stream, "stream"), (packets, "packets")):
        server.bind(str(DIR / name))
        server.listen(8)
    reader, writer = os.pipe()
    file = os.open(DIR / "file", os.O_RDWR | os.O_CREAT)
    os.write(file, b"content")
    clients = [socket.socket(socket.AF_UNIX, kind) for kind in (socket.SOCK_STREAM,) * 2 + (socket.SOCK_SEQPACKET,)]
    for client, server in zip(clients, (stream, stream, packets), strict=True):
        client.connect(server.getsockname())
    clients[0].send(b"first")
    socket.send_fds(clients[0], [b"take"], [writer, file])
    socket.send_fds(clients[0], [b"and"], [clients[0].fileno()])
    socket.send_fds(clients[1], [b"left"], [file])
    clients[1].close()
    socket.send_fds(clients[2], [b"record"], [reader, stream.fileno()])
    clients[2].send(b"plain")
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    socket.send_fds(one, [b"before the end"], [file])
    two.send(b"never read")
    one.close()  # with something unread: the other end is reset
    if checkpoint():
        os.lseek(file, 0, 0)
    accepted = stream.accept()[0]
    assert received(accepted, 5) == (b"first", [])
    data, (out, position) = received(accepted, 4)
    assert data == b"take" and os.lseek(position, 0, 1) == 7
    os.lseek(position, 3, 0)
    assert os.lseek(file, 0, 1) == 3
    os.write(out, b"through")
    assert os.read(reader, 20) == b"through"
    data, (back,) = received(accepted)
    assert data == b"and" and os.fstat(back).st_ino == os.fstat(clients[0].fileno()).st_ino
    data, (position,) = received(stream.accept()[0])
    assert data == b"left" and os.lseek(position, 0, 1) == 3
    connection = packets.accept()[0]
    data, (again, listener) = received(connection)
    assert data == b"record" and os.fstat(again).st_ino == os.fstat(reader).st_ino
    assert os.fstat(listener).st_ino == os.fstat(stream.fileno()).st_ino
    assert received(connection) == (b"plain", [])
    try:
        two.recv(1, socket.MSG_PEEK)
    except ConnectionResetError:
        pass
    data, (position,) = received(two)
    assert data == b"before the end" and os.lseek(position, 0, 1) == 3


run(main)
