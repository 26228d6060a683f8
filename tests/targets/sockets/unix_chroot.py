"""A listener in a new root directory, with a client that connected there."""

import os
import socket

from target_api import DIR, checkpoint, child, exit_code, run, wait_for_go


def main():
    (DIR / "root").mkdir()
    ready, told = os.pipe()
    hold = os.open("/", os.O_RDONLY)
    del hold

    def inside():
        os.chroot(DIR / "root")
        os.chdir("/")
        server = socket.socket(socket.AF_UNIX)
        server.bind("/server")
        server.listen()
        client = socket.socket(socket.AF_UNIX)
        client.connect("/server")
        connection, _ = server.accept()
        os.write(told, b"r")
        os.read(again, 1)
        late = socket.socket(socket.AF_UNIX)
        late.connect("/server")
        server.accept()[0].send(b"late")
        connection.send(b"x")
        good = client.recv(1) == b"x" and late.recv(10) == b"late" and client.getpeername() == "/server"
        return 5 if good and os.path.exists("/server") else 6

    again, tell = os.pipe()
    pid = child(inside)
    os.read(ready, 1)
    if checkpoint():
        (DIR / "root" / "server").unlink()
    os.write(tell, b"g")
    assert exit_code(pid) == 5
    assert wait_for_go


run(main)
