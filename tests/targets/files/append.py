"""Files opened with O_APPEND, by parent and child, written through all rounds."""

import itertools
import os
import time

from target_api import DIR, checkpoint, child, exit_code, run


def main():
    fd = os.open(DIR / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def other():
        for n in itertools.count():  # one line at least, however late it is
            os.write(fd, b"child %d\n" % n)
            if (DIR / "go").exists():
                return
            time.sleep(0.02)

    pid = child(other)
    if checkpoint(lambda n: os.write(fd, b"parent %d\n" % n)):
        os.write(fd, b"parent 0\n")
    assert exit_code(pid) == 0
    for who in ("parent", "child"):
        lines = [line for line in (DIR / "log.txt").read_text().splitlines() if line.startswith(who)]
        assert lines == [f"{who} {n}" for n in range(len(lines))] and lines, lines


run(main)
