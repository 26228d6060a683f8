"""An orphan that this subreaper has adopted stays its child."""

import os

from target_api import checkpoint, child, eventually, exit_code, prctl, run, wait_for_go


def main():
    prctl(36, 1)
    reader, writer = os.pipe()

    def middle():
        def lower():
            eventually(lambda: os.getppid() == root, "adopted")
            os.write(writer, b"%d" % os.getpid())
            wait_for_go()
            return 3 if os.getppid() == root else 4

        child(lower)

    root = os.getpid()
    assert exit_code(child(middle)) == 0
    orphan = int(os.read(reader, 20))
    checkpoint()
    assert exit_code(orphan) == 3


run(main)
