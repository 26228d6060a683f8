"""Names that are no text, hold a newline or octal escapes, end in " (deleted)", or are as long as they can be."""

import mmap
import os

from target_api import DIR, checkpoint, run


def main():
    names = [b"\xff\xfe no text", b"two\nlines", b"back\\012slash", b"kept (deleted)", b"n" * 255, "ünïcödé ☃".encode()]
    folder = os.path.join(os.fsencode(DIR), b"d\xe9p\xf4t")
    os.mkdir(folder)
    fds = []
    for name in names:
        fd = os.open(os.path.join(folder, name), os.O_RDWR | os.O_CREAT)
        os.write(fd, b"<" + name + b">")
        fds.append(fd)
    gone = os.open(os.path.join(folder, b"gone \xfc (deleted)"), os.O_RDWR | os.O_CREAT)
    os.write(gone, b"deleted")
    os.unlink(os.path.join(folder, b"gone \xfc (deleted)"))
    os.ftruncate(fds[0], 4096)
    area = mmap.mmap(fds[0], 4096)
    os.mkfifo(os.path.join(folder, b"fifo \xfd"))
    fifo = os.open(os.path.join(folder, b"fifo \xfd"), os.O_RDWR)
    os.write(fifo, b"in the fifo")
    os.chdir(folder)
    if checkpoint():
        os.pwrite(fds[1], b"?", 0)
    assert os.getcwdb() == folder
    for fd, name in zip(fds, names, strict=True):
        assert os.readlink(b"/proc/self/fd/%d" % fd) == os.path.join(folder, name)
        assert os.pread(fd, len(name) + 2, 0) == b"<" + name + b">"
    assert os.pread(gone, 99, 0) == b"deleted" and os.read(fifo, 99) == b"in the fifo"
    area[0:3] = b"map"
    assert os.pread(fds[0], 3, 0) == b"map"


run(main)
