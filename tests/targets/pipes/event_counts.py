"""eventfd at its limit with a blocked writer, at zero with a blocked reader, shared, duplicated, semaphore of many."""

import os
import time

from target_api import asleep, checkpoint, child, exit_code, run

MOST = (1 << 64) - 2


def main():
    full, empty = os.eventfd(0), os.eventfd(0)
    os.eventfd_write(full, MOST)
    semaphore = os.eventfd(0, os.EFD_SEMAPHORE)
    os.eventfd_write(semaphore, 5_000_000_000)
    never = os.eventfd(0, os.EFD_NONBLOCK)
    copy = os.dup(never)

    def write():
        os.eventfd_write(full, 7)
        return 7

    pids = [child(write), child(lambda: os.eventfd_read(empty))]
    asleep(*pids)
    if checkpoint():
        os.eventfd_read(semaphore)
    time.sleep(0.05)
    assert [os.waitpid(pid, os.WNOHANG)[0] for pid in pids] == [0, 0]
    assert os.eventfd_read(full) == MOST
    os.eventfd_write(empty, 9)
    assert [exit_code(pid) for pid in pids] == [7, 9]
    assert os.eventfd_read(full) == 7
    assert os.eventfd_read(semaphore) == 1
    with open(f"/proc/self/fdinfo/{semaphore}") as stream:
        assert f"eventfd-count: {5_000_000_000 - 1:16x}" in stream.read()
    os.eventfd_write(copy, 3)
    assert os.eventfd_read(never) == 3
    try:
        os.eventfd_read(never)
    except BlockingIOError:
        return
    raise AssertionError("not non-blocking any more")


run(main)
