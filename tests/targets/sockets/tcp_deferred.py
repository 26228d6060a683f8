"""TCP_DEFER_ACCEPT: connections which their clients take for made, and which the listener gives when data comes."""

import select
import socket

from target_api import checkpoint, run

DEFER_ACCEPT = 9


def main():
    made = []
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        listener = socket.socket(family)
        listener.bind((host, 0))
        listener.setsockopt(socket.IPPROTO_TCP, DEFER_ACCEPT, 100)
        listener.listen(8)
        clients = [socket.create_connection(listener.getsockname()[:2]) for _ in range(3)]
        clients[1].send(b"at once")
        assert listener.accept()[0].recv(20) == b"at once"
        clients[2].send(b"in the queue")
        made.append((listener, clients, [client.getsockname() for client in clients]))
    if checkpoint():
        made[0][0].close()
        made[0] = (socket.create_server(("127.0.0.1", 0)), *made[0][1:])
    for listener, clients, names in made:
        listener.settimeout(20)
        assert [client.getsockname() for client in clients] == names
        assert listener.getsockopt(socket.IPPROTO_TCP, DEFER_ACCEPT) >= 100
        queued, name = listener.accept()
        assert (queued.recv(20), name) == (b"in the queue", names[2])
        assert not select.select([listener], [], [], 0.1)[0]
        clients[0].send(b"at last")
        late, name = listener.accept()
        assert (late.recv(20), name) == (b"at last", names[0])
        late.send(b"heard")
        assert clients[0].recv(20) == b"heard"


run(main)
