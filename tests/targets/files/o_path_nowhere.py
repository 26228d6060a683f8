"""O_PATH descriptors that no path leads to: deleted nodes, and pipes and sockets reached through /proc/self/fd."""

import os
import socket
import stat

from target_api import DIR, checkpoint, run


def place(fd):
    return os.open(f"/proc/self/fd/{fd}", os.O_PATH)


def main():
    names = {"fifo": stat.S_ISFIFO, "link": stat.S_ISLNK, "socket": stat.S_ISSOCK, "null": stat.S_ISCHR}
    os.mkfifo(DIR / "fifo", 0o640)
    os.symlink("no where", DIR / "link")
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(str(DIR / "socket"))
    os.mknod(DIR / "null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    fds = {name: os.open(DIR / name, os.O_PATH | os.O_NOFOLLOW) for name in names}
    also_open = os.open(DIR / "fifo", os.O_RDWR)
    for name in names:
        os.unlink(DIR / name)
    reader, writer = os.pipe()
    left, right = socket.socketpair()
    at_pipe, at_socket = place(writer), place(left.fileno())
    if checkpoint():
        fds["link"] = os.open("/", os.O_PATH)
    for name, is_one in names.items():
        found = os.fstat(fds[name])
        assert is_one(found.st_mode) and found.st_nlink == 0 and not (DIR / name).exists()
    assert os.readlink("", dir_fd=fds["link"]) == "no where"
    assert os.fstat(fds["null"]).st_rdev == os.makedev(1, 3)
    assert os.fstat(fds["fifo"]).st_ino == os.fstat(also_open).st_ino
    assert (
        os.fstat(at_pipe).st_ino == os.fstat(writer).st_ino
        and os.fstat(at_socket).st_ino == os.fstat(left.fileno()).st_ino
    )
    os.write(os.open(f"/proc/self/fd/{at_pipe}", os.O_WRONLY), b"through the place")
    assert os.read(reader, 99) == b"through the place"
    right.send(b"x")
    assert left.recv(1) == b"x"


run(main)
