"""dup'd and inherited descriptors share one offset, one opened twice does not."""

import os

from target_api import DIR, checkpoint, child, exit_code, run, wait_for_go


def main():
    (DIR / "data").write_bytes(bytes(range(200)))
    one = os.open(DIR / "data", os.O_RDONLY)
    two, high, alone = os.dup(one), os.dup2(one, 200), os.open(DIR / "data", os.O_RDONLY)
    pid = child(lambda: wait_for_go() or os.read(high, 1)[0])
    os.read(two, 50)
    if checkpoint():
        os.lseek(one, 0, 0)
    code = exit_code(pid)
    assert code == 50 and [os.lseek(fd, 0, 1) for fd in (one, two, high, alone)] == [51, 51, 51, 0]


run(main)
