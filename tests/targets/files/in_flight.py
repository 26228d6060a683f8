"""Descriptors in flight in a socket and nowhere else: pipe, deleted file, memfd, eventfd, timerfd, directory."""

import os
import socket
import time

from target_api import DIR, checkpoint, child, exit_code, libc, run, wait_for_go


def main():
    ours, theirs = socket.socketpair()
    reader, writer = os.pipe()
    os.write(writer, b"in the pipe")
    ghost = os.open(DIR / "ghost", os.O_RDWR | os.O_CREAT)
    os.write(ghost, b"deleted")
    os.unlink(DIR / "ghost")
    memory = os.memfd_create("flying")
    os.write(memory, b"memory")
    event = os.eventfd(5)
    timer = libc.timerfd_create(time.CLOCK_MONOTONIC, 0)
    folder = os.open(DIR, os.O_RDONLY | os.O_DIRECTORY)
    sent = [writer, ghost, memory, event, timer, folder]
    socket.send_fds(ours, [b"first"], sent[:3])
    socket.send_fds(ours, [b"second"], sent[3:])
    for fd in sent:
        os.close(fd)

    def receive():
        ours.close()
        wait_for_go()
        _, first, _, _ = socket.recv_fds(theirs, 5, 10)
        _, second, _, _ = socket.recv_fds(theirs, 6, 10)
        assert len(first) == len(second) == 3
        os.write(first[0], b", and more")
        assert os.pread(first[1], 99, 0) == b"deleted" and os.lseek(first[1], 0, 1) == 7
        assert os.pread(first[2], 99, 0) == b"memory"
        assert os.eventfd_read(second[0]) == 5
        assert "timerfd" in os.readlink(f"/proc/self/fd/{second[1]}")
        assert "go" in os.listdir(second[2])

    pid = child(receive)
    theirs.close()
    if checkpoint():
        os.read(reader, 11)
    assert exit_code(pid) == 0
    assert os.read(reader, 99) == b"in the pipe, and more"
    assert os.read(reader, 1) == b""


run(main)
