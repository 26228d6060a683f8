"""Five hundred files, pipes and dups at once."""

import os

from target_api import DIR, checkpoint, run


def main():
    files, pipes, dups = [], [], []
    for n in range(200):
        fd = os.open(DIR / f"file{n}", os.O_RDWR | os.O_CREAT)
        os.write(fd, bytes(n))
        files.append(fd)
        if n % 2:
            pipes.append(os.pipe())
            os.write(pipes[-1][1], b"%d" % n)
            dups.append(os.dup(fd))
    if checkpoint():
        os.lseek(files[77], 0, 0)
    assert [os.lseek(fd, 0, 1) for fd in files] == list(range(200))
    assert [os.lseek(fd, 0, 1) for fd in dups] == list(range(1, 200, 2))
    assert [os.read(reader, 9) for reader, _ in pipes] == [b"%d" % n for n in range(1, 200, 2)]


run(main)
