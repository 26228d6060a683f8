"""UDP: bound, connected, with datagrams waiting, IPv4 and IPv6."""

import socket

from target_api import checkpoint, run


def main():
    made = []
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            box, sender = (socket.socket(family, socket.SOCK_DGRAM) for _ in range(2))
            box.bind((host, 0))
        except OSError:
            continue
        sender.connect(box.getsockname())
        for message in (b"one", b"", b"three" * 200):
            sender.send(message)
        made.append((box, sender, box.getsockname(), sender.getsockname()))
    if checkpoint():
        made[0][0].recv(1)
    for box, sender, name, sender_name in made:
        assert [box.recv(2000) for _ in range(2)] == [b"one", b""]
        assert box.recvfrom(2000) == (b"three" * 200, sender_name)
        assert box.getsockname() == name == sender.getpeername()
        box.sendto(b"answer", sender_name)
        assert sender.recv(100) == b"answer"


run(main)
