"""Two children share memory that their parent has unmapped."""

import mmap
import time

from target_api import PAGE, checkpoint, child, eventually, exit_code, run, wait_for_go


def left(area):
    count = 0
    while area[0] != 255:
        count += 1
        area[1] = count % 200
        time.sleep(0.01)
    return 3


def right(area):
    wait_for_go()
    seen = area[1]
    eventually(lambda: area[1] != seen, "the sibling writes")
    area[0] = 255
    return 4


def main():
    area = mmap.mmap(-1, PAGE)
    pids = child(left, area), child(right, area)
    area.close()
    checkpoint()
    assert [exit_code(pid) for pid in pids] == [3, 4]


run(main)
