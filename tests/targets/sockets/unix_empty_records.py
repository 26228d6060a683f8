"""Empty records of seqpacket and datagram pairs, first, last and alone; the sender open, shut down or closed."""

import socket

from target_api import checkpoint, run

QUEUES = [[b"", b"x", b""], [b""], [b"", b""], [b"a", b"", b"", b"b"], [], [b"a"]]


def main():
    ends = []
    for kind in (socket.SOCK_SEQPACKET, socket.SOCK_DGRAM):
        for queue in QUEUES:
            for how in ("open", "shut", "closed"):
                if kind == socket.SOCK_DGRAM and how != "open":
                    continue
                sender, receiver = socket.socketpair(socket.AF_UNIX, kind)
                for message in queue:
                    sender.send(message)
                if how == "shut":
                    sender.shutdown(socket.SHUT_WR)
                elif how == "closed":
                    sender.close()
                ends.append((sender, receiver, queue, how))
    if checkpoint():
        ends[0][1].recv(1)
    for _, receiver, queue, how in ends:
        receiver.setblocking(False)
        for message in queue:
            got = receiver.recvmsg(10, 100)
            assert got[0] == message, (receiver, queue, how, got)
        try:
            got = receiver.recv(10)
        except BlockingIOError:
            assert how == "open", (receiver, queue, how)
        else:
            assert not got and how != "open", (receiver, queue, how, got)


run(main)
