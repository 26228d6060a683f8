"""O_PATH of everything: a FIFO, a socket, a device, a symbolic link, a deleted file, a file without permissions."""

import fcntl
import os
import socket
import stat

from target_api import DIR, checkpoint, run


def main():
    os.mkfifo(DIR / "fifo")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(DIR / "socket"))
    (DIR / "gone").write_text("deleted")
    (DIR / "closed").write_text("closed")
    os.symlink("nowhere", DIR / "dangling")
    fds = {name: os.open(DIR / name, os.O_PATH | os.O_NOFOLLOW) for name in ("fifo", "socket", "gone", "dangling")}
    fds["closed"] = os.open(DIR / "closed", os.O_PATH | os.O_CLOEXEC)
    fds["null"] = os.open("/dev/null", os.O_PATH)
    os.chmod(DIR / "closed", 0)
    os.unlink(DIR / "gone")
    if checkpoint():
        os.close(fds["fifo"])
        os.open(DIR / "fifo", os.O_RDWR)
    assert all(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_PATH for fd in fds.values())
    kinds = {name: stat.S_IFMT(os.fstat(fd).st_mode) for name, fd in fds.items()}
    assert kinds == {
        "fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK, "gone": stat.S_IFREG, "dangling": stat.S_IFLNK,
        "closed": stat.S_IFREG, "null": stat.S_IFCHR,
    }, kinds  # fmt: skip
    assert os.readlink("", dir_fd=fds["dangling"]) == "nowhere"
    with open(f"/proc/self/fd/{fds['gone']}") as stream:
        assert stream.read() == "deleted"


run(main)
