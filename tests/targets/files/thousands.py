"""Two thousand open files and half as many pipes in two tasks, most of them shared."""

import os
import resource

from target_api import DIR, checkpoint, child, exit_code, run, wait_for_go


def main():
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(limit, 8000), limit))
    (DIR / "file").write_bytes(bytes(10_000))
    files = [os.open(DIR / "file", os.O_RDONLY) for _ in range(2000)]
    pipes = [os.pipe() for _ in range(1000)]
    for n, fd in enumerate(files):
        os.lseek(fd, n, 0)
    for n, (_, writer) in enumerate(pipes):
        os.write(writer, b"%d" % n)

    def other():
        wait_for_go()
        return [os.lseek(fd, 0, 1) for fd in files] != list(range(2000))

    pid = child(other)
    if checkpoint():
        os.lseek(files[1999], 0, 0)
    assert exit_code(pid) == 0
    assert [os.lseek(fd, 0, 1) for fd in files] == list(range(2000))
    assert [os.read(reader, 9) for reader, _ in pipes] == [b"%d" % n for n in range(1000)]


run(main)
