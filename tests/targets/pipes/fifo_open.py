"""Tasks blocked in open(2) of a FIFO, one that waits for a reader and one for a writer."""

import os
import time

from target_api import DIR, asleep, checkpoint, child, exit_code, run


def main():
    for name in ("in", "out"):
        os.mkfifo(DIR / name)

    def write():
        fd = os.open(DIR / "in", os.O_WRONLY)
        return os.write(fd, b"hello")

    def read():
        fd = os.open(DIR / "out", os.O_RDONLY)
        return len(os.read(fd, 100))

    pids = [child(write), child(read)]
    asleep(*pids)
    if checkpoint():
        os.close(os.open(DIR / "out", os.O_WRONLY))
    time.sleep(0.05)
    assert [os.waitpid(pid, os.WNOHANG)[0] for pid in pids] == [0, 0]
    reader = os.open(DIR / "in", os.O_RDONLY)
    writer = os.open(DIR / "out", os.O_WRONLY)
    assert os.read(reader, 100) == b"hello"
    os.write(writer, b"seventeen letters")
    assert [exit_code(pid) for pid in pids] == [5, 17]


run(main)
