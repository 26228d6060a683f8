"""Parent and child talk through shared anonymous memory, before and after."""

import mmap
import time

from target_api import PAGE, checkpoint, child, eventually, exit_code, run


def other(area):
    count = 0
    while area[0] == 0:
        count += 1
        area[8:16] = b"%08d" % count
        time.sleep(0.01)
    area[1] = area[0] + 1
    return 0


def main():
    area = mmap.mmap(-1, 4 * PAGE)
    area[2 * PAGE : 2 * PAGE + 4] = b"keep"
    pid = child(other, area)
    if checkpoint(lambda n: area.__setitem__(slice(16, 24), b"%08d" % n)):
        area[2 * PAGE] = 0
    assert area[2 * PAGE : 2 * PAGE + 4] == b"keep"
    area[0] = 41
    eventually(lambda: area[1] == 42, "the child answers")
    assert exit_code(pid) == 0


run(main)
