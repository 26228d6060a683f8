"""Threads blocked in read, accept, recv, waitpid and flock; each is served afterwards."""

import fcntl
import os
import socket
import threading

from target_api import DIR, checkpoint, child, forever, run


def main():
    reader, writer = os.pipe()
    one, two = socket.socketpair()
    server = socket.create_server(("127.0.0.1", 0))
    pid = child(forever)
    mine, other = os.open(DIR / "lock", os.O_CREAT | os.O_RDWR), os.open(DIR / "lock", os.O_RDWR)
    fcntl.flock(mine, fcntl.LOCK_EX)
    got = {}
    work = {
        "read": lambda: os.read(reader, 10),
        "recv": lambda: two.recv(10),
        "accept": lambda: server.accept()[0].recv(10),
        "waitpid": lambda: os.waitpid(pid, 0)[1],
        "flock": lambda: fcntl.flock(other, fcntl.LOCK_EX),
    }

    def start(name):
        got[name] = work[name]()

    threads = [threading.Thread(target=start, args=(name,)) for name in work]
    for thread in threads:
        thread.start()
    if checkpoint():
        os.write(writer, b"tampered")
    assert not got or "read" in got, got
    os.write(writer, b"a")
    one.send(b"b")
    with socket.create_connection(server.getsockname()) as client:
        client.send(b"c")
        os.kill(pid, 9)
        fcntl.flock(mine, fcntl.LOCK_UN)
        for thread in threads:
            thread.join()
    assert got == {"read": b"a", "recv": b"b", "accept": b"c", "waitpid": 9, "flock": None}, got


run(main)
