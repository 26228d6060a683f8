"""Messages that wait where SO_PASSPIDFD alone, without SO_PASSCRED, has them keep their sender."""

import os
import socket
from pathlib import Path

from target_api import Skip, checkpoint, child, exit_code, run, wait_for_go

SO_PASSPIDFD, SCM_PIDFD = 76, 4
KINDS = (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET)


def sender_of(end, text):
    """The pid of who sent the message that is next."""
    data, ancillary, _flags, _name = end.recvmsg(100, 100)
    assert data == text, data
    (pidfd,) = [int.from_bytes(body, "little") for _level, kind, body in ancillary if kind == SCM_PIDFD]
    (line,) = [line for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines() if line.startswith("Pid:")]
    os.close(pidfd)
    return int(line.split()[1])


def main():
    pairs = [socket.socketpair(socket.AF_UNIX, kind) for kind in KINDS]
    try:
        for _sender, end in pairs:
            end.setsockopt(socket.SOL_SOCKET, SO_PASSPIDFD, 1)
    except OSError as error:
        raise Skip(f"no SO_PASSPIDFD: {error}") from None

    def send():
        for sender, _end in pairs:
            sender.send(b"from the child")
        os.write(ready, b"x")
        wait_for_go()

    reading, ready = os.pipe()
    pid = child(send)
    os.read(reading, 1)
    for sender, _end in pairs:
        sender.send(b"from the parent")
    if checkpoint():
        pairs[0][1].recv(1)
    for _sender, end in pairs:
        assert end.getsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED) == 0
        assert sender_of(end, b"from the child") == pid
        assert sender_of(end, b"from the parent") == os.getpid()
    assert exit_code(pid) == 0


run(main)
