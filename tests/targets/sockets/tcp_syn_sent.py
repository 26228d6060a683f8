"""A connect that nobody answers, one task of which waits in it; answered after the restore."""

import ctypes
import select
import socket
import struct

from target_api import checkpoint, child, eventually, exit_code, run, state

S, SYN_SENT = socket.SOL_SOCKET, 2


def main():
    server = socket.create_server(("127.0.0.1", 0))
    nothing = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))
    server.setsockopt(S, 26, struct.pack("HxxxxxxP", 1, ctypes.addressof(nothing)))  # SO_ATTACH_FILTER: drop all
    waiting = socket.socket()
    waiting.setblocking(False)
    waiting.connect_ex(server.getsockname())
    name = waiting.getsockname()

    def blocked():
        client = socket.socket()
        client.connect(server.getsockname())
        return 5 if client.recv(10) == b"welcome" else 6

    pid = child(blocked)
    eventually(lambda: state(pid) == "S")
    if checkpoint():
        waiting.close()
    assert waiting.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == SYN_SENT
    assert waiting.getsockname() == name and not select.select([], [waiting], [], 0)[1]
    server.setsockopt(S, 27, 0)  # SO_DETACH_FILTER
    server.settimeout(60)
    names = []
    for _ in range(2):
        connection, peer = server.accept()
        connection.sendall(b"welcome")
        names.append(peer)
    assert name in names
    assert select.select([], [waiting], [], 20)[1] and waiting.getsockopt(S, socket.SO_ERROR) == 0
    waiting.setblocking(True)
    assert waiting.recv(10) == b"welcome" and exit_code(pid) == 5


run(main)
