"""Every flag of open(2) that F_GETFL shows, and a few that it does not."""

import fcntl
import os

from target_api import DIR, checkpoint, run

FLAGS = {
    "sync": os.O_SYNC,
    "dsync": os.O_DSYNC,
    "noatime": os.O_NOATIME,
    "nonblock": os.O_NONBLOCK,
    "append": os.O_APPEND,
    "created": os.O_CREAT | os.O_EXCL | os.O_TRUNC,
    "nofollow": os.O_NOFOLLOW,
    "direct": os.O_DIRECT,
}


def main():
    fds = {}
    for name, flags in FLAGS.items():
        for access in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
            path = DIR / f"{name}{access}"
            if not flags & os.O_CREAT:
                path.write_text("content")
            try:
                fds[path] = os.open(path, flags | access, 0o600)
            except OSError:
                assert flags == os.O_DIRECT  # not every file system has it
    for path, fd in fds.items():
        if "created" in path.name and not path.name.endswith("0"):
            os.write(fd, b"content")
    before = {path: fcntl.fcntl(fd, fcntl.F_GETFL) for path, fd in fds.items()}
    if checkpoint():
        fcntl.fcntl(fds[DIR / "append1"], fcntl.F_SETFL, 0)
    after = {path: fcntl.fcntl(fd, fcntl.F_GETFL) for path, fd in fds.items()}
    assert before == after, {path.name: (oct(before[path]), oct(after[path])) for path in fds}
    assert (DIR / "created1").read_text() == "content"
    os.write(fds[DIR / "append2"], b" more")
    assert (DIR / "append2").read_text() == "content more"


run(main)
