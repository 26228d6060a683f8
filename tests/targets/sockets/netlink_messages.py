"""Unread netlink messages of other sockets: of one that is here, of one that is gone, of a child; with credentials."""

import os
import socket
import struct

from target_api import checkpoint, child, exit_code, run, wait_for_go

USERSOCK = 2
SOL_NETLINK, NLMSG_DONE = 270, 3


def message(number, size):
    text = bytes([number]) * size
    return struct.pack("<IHHII", 16 + size, NLMSG_DONE, 0, number, 0) + text


def make():
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, USERSOCK)
    made.bind((0, 0))
    return made


def receive(link):
    data, ancillary, _, sender = link.recvmsg(65536, 100)
    ((_, _, raw),) = [a for a in ancillary if a[:2] == (socket.SOL_SOCKET, 2)]
    return data, sender, struct.unpack("<iII", raw[:12])


def main():
    link, here, gone = make(), make(), make()
    link.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    port = link.getsockname()[0]
    kept, ended = here.getsockname(), gone.getsockname()
    here.sendto(message(1, 10), (port, 0))
    gone.sendto(message(2, 9000), (port, 0))
    gone.close()

    told, tell = os.pipe()

    def sends():
        own = make()
        own.sendto(message(3, 0), (port, 0))
        link.close()
        os.write(tell, b"s")
        wait_for_go()
        try:
            own.sendto(message(6, 7), (port, 0))
        except ConnectionRefusedError:
            return 4
        return 5

    pid = child(sends)
    assert os.read(told, 1) == b"s"
    here.sendto(message(4, 100), (port, 0))
    link.connect(kept)
    if checkpoint():
        receive(link)
    me = (os.getpid(), os.getuid(), os.getgid())
    assert receive(link) == (message(1, 10), kept, me)
    assert receive(link) == (message(2, 9000), ended, me)
    data, sender, credentials = receive(link)
    assert data == message(3, 0) and sender not in (kept, ended) and credentials == (pid, *me[1:])
    assert receive(link) == (message(4, 100), kept, me)
    assert exit_code(pid) == 4
    assert link.getpeername() == kept
    here.sendto(message(5, 7), (port, 0))
    assert receive(link) == (message(5, 7), kept, me)


run(main)
