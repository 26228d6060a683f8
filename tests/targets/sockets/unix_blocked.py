"""Tasks that wait: in accept, in recv, in connect for room in the backlog, in a datagram send to a full queue."""

import socket

from target_api import DIR, checkpoint, child, eventually, exit_code, run, state


def main():
    server, full = (socket.socket(socket.AF_UNIX) for _ in range(2))
    server.bind(str(DIR / "server"))
    server.listen()
    full.bind(str(DIR / "full"))
    full.listen(0)
    box = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    box.bind(str(DIR / "box"))
    one, two = socket.socketpair()

    def client():
        made = socket.socket(socket.AF_UNIX)
        made.connect(str(DIR / "full"))
        return 5 if made.recv(10) == b"welcome" else 6

    def sender():
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        for n in range(200):
            made.sendto(b"%d" % n, str(DIR / "box"))
        return 7

    first = socket.socket(socket.AF_UNIX)
    first.connect(str(DIR / "full"))
    pids = [
        child(lambda: 3 if server.accept()[0].recv(10) == b"hello" else 4),
        child(client),
        child(sender),
        child(lambda: 9 if one.recv(10) == b"data" else 10),
    ]
    for pid in pids:
        eventually(lambda pid=pid: state(pid) == "S")
    if checkpoint():
        two.send(b"!")
    late = socket.socket(socket.AF_UNIX)
    late.connect(str(DIR / "server"))
    late.send(b"hello")
    assert [int(box.recv(10)) for _ in range(200)] == list(range(200))
    for _ in range(2):
        full.accept()[0].send(b"welcome")
    two.send(b"data")
    assert [exit_code(pid) for pid in pids] == [3, 5, 7, 9]


run(main)
