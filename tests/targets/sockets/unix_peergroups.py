"""SO_PEERCRED and SO_PEERGROUPS name who made the pair, listened or connected, also a task that has ended."""

import os
import socket
import struct

from target_api import DIR, checkpoint, child, exit_code, run, wait_for_go

S = socket.SOL_SOCKET
SO_PEERGROUPS = 59


def peer(sock):
    groups = sock.getsockopt(S, SO_PEERGROUPS, 256)
    return struct.unpack("3i", sock.getsockopt(S, socket.SO_PEERCRED, 12)), groups


def become(n):
    os.setgroups([n, n + 1])
    os.setresgid(n + 2, n + 2, n + 2)
    os.setresuid(n + 3, n + 3, n + 3)


def main():
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(DIR / "server"))
    os.chmod(DIR / "server", 0o777)
    server.listen()
    carry, other = socket.socketpair(type=socket.SOCK_SEQPACKET)

    def living():
        become(100)
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(DIR / "server"))
        wait_for_go()
        assert peer(client)[0][0] == os.getppid()
        client.send(b"x")

    def dying():
        become(200)
        pair = socket.socketpair()
        socket.send_fds(other, [b"pair"], [end.fileno() for end in pair])

    alive = child(living)
    connection, _ = server.accept()
    ended = child(dying)
    _, fds, _, _ = socket.recv_fds(carry, 10, 2)
    assert exit_code(ended) == 0
    pair = [socket.socket(fileno=fd) for fd in fds]
    sockets = [server, connection, carry, other, *pair]
    before = [peer(sock) for sock in sockets]
    assert before[1] == ((alive, 103, 102), struct.pack("2i", 100, 101)) and before[4][0] == (ended, 203, 202)
    if checkpoint():
        connection.close()
    after = [peer(sock) for sock in sockets]
    assert before == after, (before, after)
    assert connection.recv(1) == b"x"
    assert exit_code(alive) == 0


run(main)
