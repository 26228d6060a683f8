"""SO_PEERCRED and SO_PASSCRED of a socket pair and of an accepted connection."""

import os
import socket
import struct

from target_api import DIR, checkpoint, child, exit_code, run, wait_for_go


def peer(connection):
    return struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))


def main():
    one, two = socket.socketpair()
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(DIR / "server"))
    server.listen()

    def connect():
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(DIR / "server"))
            wait_for_go()

    pid = child(connect)
    connection, _ = server.accept()
    two.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    before = peer(one), peer(connection)
    assert before[1][0] == pid
    if checkpoint():
        two.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
    assert (peer(one), peer(connection)) == before
    one.send(b"x")
    _, ancillary, _, _ = two.recvmsg(10, 100)
    assert struct.unpack("3i", ancillary[0][2])[0] == os.getpid()
    assert exit_code(pid) == 0


run(main)
