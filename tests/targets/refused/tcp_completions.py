"""TCP: notices of MSG_ZEROCOPY that the task has not fetched; it goes on to wait for them."""

import select
import socket
import struct

from target_api import Skip, checkpoint, eventually, run

SO_ZEROCOPY, MSG_ZEROCOPY, SO_EE_ORIGIN_ZEROCOPY = 60, 0x4000000, 5


def main():
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    connection, _ = server.accept()
    try:
        client.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
    except OSError:
        raise Skip("no MSG_ZEROCOPY") from None
    for _ in range(2):
        client.send(b"z" * 5000, MSG_ZEROCOPY)
        connection.recv(5000, socket.MSG_WAITALL)
    poller = select.poll()
    poller.register(client, 0)
    eventually(lambda: poller.poll(0))
    if checkpoint():
        client.recvmsg(1, 200, socket.MSG_ERRQUEUE)
    _, ((_, _, control),), _, _ = client.recvmsg(1, 200, socket.MSG_ERRQUEUE)
    notice = struct.unpack_from("<IBBBBII", control)
    assert notice[1] == SO_EE_ORIGIN_ZEROCOPY and notice[5:7] == (0, 1), notice


run(main)
