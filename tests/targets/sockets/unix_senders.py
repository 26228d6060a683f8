"""Datagrams of several tasks in one queue: each keeps its sender's address and credentials."""

import os
import socket
import struct

from target_api import DIR, checkpoint, child, exit_code, run, wait_for_go


def main():
    box = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    box.bind(str(DIR / "box"))
    os.chmod(DIR / "box", 0o777)
    box.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)

    def sender(n):
        mine = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        if n:
            mine.bind(str(DIR / f"sender{n}"))
        os.setresgid(n * 10, n * 10, n * 10)
        os.setresuid(n * 11, n * 11, n * 11)
        mine.sendto(b"from %d" % n, str(DIR / "box"))
        wait_for_go()

    pids = [child(sender, n) for n in range(4)]
    expected = []
    while len(expected) < 4:
        data, ancillary, _, name = box.recvmsg(100, 100)
        n = int(data.split()[1])
        expected.append((data, struct.unpack("3i", ancillary[0][2]), name))
        assert expected[-1][1] == (pids[n], n * 11, n * 10)
    for data, credentials, name in expected:
        n = int(data.split()[1])
        assert name == (str(DIR / f"sender{n}") if n else None)
        mine = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        body = [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, struct.pack("3i", *credentials))]
        mine.sendmsg([data], body, 0, str(DIR / "box"))
    if checkpoint():
        box.recv(1)
    for data, credentials, _ in expected:
        got, ancillary, _, _ = box.recvmsg(100, 100)
        assert (got, struct.unpack("3i", ancillary[0][2])) == (data, credentials), (got, credentials)
    for pid in pids:
        assert exit_code(pid) == 0


run(main)
