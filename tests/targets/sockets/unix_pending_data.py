"""Unix connections not accepted yet: with much data, with records, shut down, and closed by their clients."""

import os
import socket

from target_api import DIR, checkpoint, pattern, run


def main():
    stream, packets = (socket.socket(socket.AF_UNIX, kind) for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET))
    for server, name in ((stream, "stream"), (packets, "packets")):
        server.bind(str(DIR / name))
        server.listen(8)

    def client(server):
        made = socket.socket(socket.AF_UNIX, server.type)
        made.connect(server.getsockname())
        return made

    large, shut, quiet, gone, silent = (client(stream) for _ in range(5))
    large.sendall(pattern(5, 100_000))
    shut.sendall(b"done")
    shut.shutdown(socket.SHUT_WR)
    gone.sendall(b"left behind")
    gone.close()
    silent.close()
    records = client(packets)
    for record in (b"one", b"", b"x" * 20_000):
        records.send(record)
    if checkpoint():
        stream.accept()
    accepted = [stream.accept()[0] for _ in range(5)]
    for one in accepted:
        one.settimeout(20)
    data = b""
    while len(data) < 100_000:
        data += accepted[0].recv(65536)
    assert data == pattern(5, 100_000)
    assert accepted[1].recv(10) == b"done" and accepted[1].recv(10) == b""
    accepted[1].send(b"answer")
    assert shut.recv(10) == b"answer"
    quiet.send(b"first")
    assert accepted[2].recv(10) == b"first"
    assert accepted[3].recv(20) == b"left behind" and accepted[3].recv(1) == b"" == accepted[4].recv(1)
    connection, _ = packets.accept()
    assert [connection.recv(65536) for _ in range(3)] == [b"one", b"", b"x" * 20_000]
    assert os.path.exists(DIR / "stream")


run(main)
