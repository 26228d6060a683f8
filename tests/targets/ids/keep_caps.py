"""PR_SET_KEEPCAPS and securebits."""

import os

from target_api import Skip, checkpoint, prctl, run


def main():
    if os.getuid():
        raise Skip("needs root")
    prctl(28, 1 << 0 | 1 << 2 | 1 << 3)
    prctl(8, 1)
    before = prctl(27), prctl(7)
    if checkpoint():
        prctl(8, 0)
    assert (prctl(27), prctl(7)) == before, (prctl(27), prctl(7))


run(main)
