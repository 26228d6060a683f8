"""Classic BPF filters, one of them locked, that still choose what comes in."""

import ctypes
import socket
import struct

from target_api import checkpoint, run

S = socket.SOL_SOCKET
SO_ATTACH_FILTER, SO_LOCK_FILTER, SO_DETACH_FILTER = 26, 44, 27
# Accept only datagrams whose first byte of data is 'y' (UDP sockets: the program sees the UDP header first).
PROGRAM = [(0x30, 0, 0, 8), (0x15, 0, 1, ord("y")), (0x06, 0, 0, 0xFFFF), (0x06, 0, 0, 0)]
STREAM = [(0x06, 0, 0, 0xFFFFFFFF)]


def attach(sock, program):
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    sock.setsockopt(S, SO_ATTACH_FILTER, struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))


def main():
    box, locked, sender = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3))
    for one in (box, locked):
        one.bind(("127.0.0.1", 0))
        attach(one, PROGRAM)
        sender.sendto(b"yes", one.getsockname())
    locked.setsockopt(S, SO_LOCK_FILTER, 1)
    left, right = socket.socketpair(type=socket.SOCK_DGRAM)
    attach(right, [(0x30, 0, 0, 0), *PROGRAM[1:]])
    left.send(b"y queued")
    server = socket.create_server(("127.0.0.1", 0))
    attach(server, STREAM)
    client = socket.create_connection(server.getsockname())
    connection, _ = server.accept()
    attach(connection, STREAM)
    if checkpoint():
        box.recv(1)
    for one in (box, locked):
        assert one.recv(10) == b"yes"
        sender.sendto(b"no", one.getsockname())
        sender.sendto(b"yes, again", one.getsockname())
        assert one.recv(20) == b"yes, again"
    assert locked.getsockopt(S, SO_LOCK_FILTER) == 1 and box.getsockopt(S, SO_LOCK_FILTER) == 0
    try:
        locked.setsockopt(S, SO_DETACH_FILTER, 0)
    except PermissionError:
        pass
    else:
        raise AssertionError("the lock is gone")
    left.send(b"n")
    left.send(b"yy")
    assert right.recv(10) == b"y queued" and right.recv(10) == b"yy"
    client.sendall(b"x")
    assert connection.recv(1) == b"x"


run(main)
