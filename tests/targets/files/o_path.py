"""O_PATH descriptors of a file, a directory and a symbolic link."""

import fcntl
import os

from target_api import DIR, checkpoint, run


def main():
    (DIR / "file").write_text("by path")
    os.symlink("file", DIR / "link")
    file = os.open(DIR / "file", os.O_PATH)
    folder = os.open(DIR, os.O_PATH | os.O_DIRECTORY)
    link = os.open(DIR / "link", os.O_PATH | os.O_NOFOLLOW)
    if checkpoint():
        os.close(file)
        assert os.open(DIR / "file", os.O_RDONLY) == file
    assert all(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_PATH for fd in (file, folder, link))
    assert os.readlink("", dir_fd=link) == "file"
    with open(f"/proc/self/fd/{file}") as stream:
        assert stream.read() == "by path"
    assert os.stat("file", dir_fd=folder).st_size == 7


run(main)
