"""A file in flight in a connection that was not accepted yet, and open nowhere else: nobody can get hold of it."""

import array
import os
import socket

from target_api import DIR, checkpoint, run


def main():
    server, client = (socket.socket(socket.AF_UNIX) for _ in range(2))
    server.bind(str(DIR / "stream"))
    server.listen(8)
    client.connect(server.getsockname())
    file = os.open(DIR / "file", os.O_RDWR | os.O_CREAT)
    os.write(file, b"content")
    socket.send_fds(client, [b"take"], [file])
    os.close(file)
    checkpoint()
    _, ancillary, _, _ = server.accept()[0].recvmsg(9, socket.CMSG_SPACE(4))
    (file,) = array.array("i", ancillary[0][2])
    assert os.lseek(file, 0, 1) == 7


run(main)
