"""eventfd: counters, semaphores, non-blocking, shared with a child that waits."""

import os

from target_api import checkpoint, child, exit_code, run


def main():
    plain = os.eventfd(0)
    os.eventfd_write(plain, 1234567890)
    semaphore = os.eventfd(3, os.EFD_SEMAPHORE | os.EFD_NONBLOCK)
    waited = os.eventfd(0)
    pid = child(lambda: os.eventfd_read(waited))
    if checkpoint():
        os.eventfd_write(semaphore, 1)
    assert os.eventfd_read(plain) == 1234567890
    assert [os.eventfd_read(semaphore) for _ in range(3)] == [1, 1, 1]
    os.eventfd_write(waited, 44)
    assert exit_code(pid) == 44
    try:
        os.eventfd_read(semaphore)
    except BlockingIOError:
        return
    raise AssertionError("the semaphore had more")


run(main)
