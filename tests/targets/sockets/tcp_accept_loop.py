"""TCP clients connect, ask and leave all the time: the backlog, the connections and their ends are never the same."""

import os
import socket

from target_api import DIR, checkpoint, child, exit_code, run

LENGTH = 64


def serve(listener):
    while True:
        connection = listener.accept()[0]
        question = connection.recv(LENGTH, socket.MSG_WAITALL)
        connection.sendall(question[::-1])
        connection.close()


def ask(family, name, number):
    count = 0
    while not (DIR / "go").exists():
        client = socket.socket(family)
        client.connect(name)
        question = (b"%d:%d:" % (number, count)).ljust(LENGTH, b"x")
        client.sendall(question[:30])
        client.sendall(question[30:])
        answer = b""
        while more := client.recv(100):
            answer += more
        assert answer == question[::-1], (answer, question)
        client.close()
        count += 1


def target():
    servers, clients = [], []
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        listener = socket.socket(family)
        listener.bind((host, 0))
        listener.listen(2)
        servers.append(child(serve, listener))
        clients += [child(ask, family, listener.getsockname(), number) for number in range(2)]
        listener.close()
    checkpoint()
    assert [exit_code(pid) for pid in clients] == [0] * len(clients)
    for pid in servers:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


run(target)
