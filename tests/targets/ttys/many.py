"""Several terminals, of which one's master and another's slave are closed."""

import os
import pty

from target_api import checkpoint, run


def main():
    pairs = [pty.openpty() for _ in range(4)]
    names = [os.ttyname(slave) for _, slave in pairs]
    os.close(pairs[1][1])
    if checkpoint():
        os.dup2(pairs[0][1], pairs[3][1])
    for n in (0, 2, 3):
        assert os.ttyname(pairs[n][1]) == names[n]
        os.write(pairs[n][1], b"%d" % n)
        assert os.read(pairs[n][0], 10) == b"%d" % n
    again = os.open(names[1], os.O_RDWR | os.O_NOCTTY)
    os.write(again, b"reopened")
    assert os.read(pairs[1][0], 20) == b"reopened"


run(main)
