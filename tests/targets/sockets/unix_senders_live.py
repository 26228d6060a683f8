"""Datagrams queued by sockets with and without names, some of which are closed meanwhile."""

import socket

from target_api import DIR, checkpoint, run


def main():
    box = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    box.bind(str(DIR / "box"))

    def sender(name, connected):
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        if name:
            made.bind(name)
        if connected:
            made.connect(str(DIR / "box"))
            made.send(b"connected")
        else:
            made.sendto(b"sent", str(DIR / "box"))
        return made

    names = [None, str(DIR / "a"), "\0ckpt-target-box", str(DIR / "gone"), "\0ckpt-target-gone", None]
    senders = [sender(name, n % 2) for n, name in enumerate(names)]
    for closed in senders[3:]:
        closed.close()
    (DIR / "gone").unlink()
    if checkpoint():
        box.recv(1)
    for n, name in enumerate(names):
        data, found = box.recvfrom(100)
        assert data == (b"connected" if n % 2 else b"sent")
        assert found == (name.encode() if name and name[0] == "\0" else name), (found, name)
    senders[1].send(b"again")
    box.sendto(b"answer", str(DIR / "a"))
    assert box.recv(10) == b"again" and senders[1].recv(10) == b"answer"
    assert not (DIR / "gone").exists()


run(main)
