"""A thread in a long sleep with a deadline: it neither wakes early nor sleeps the whole time again."""

import threading
import time

from target_api import checkpoint, run


def main():
    woken = []
    began = time.monotonic()
    thread = threading.Thread(target=lambda: time.sleep(2.5) or woken.append(time.monotonic()))
    thread.start()
    if checkpoint(same=False):  # it may be over by then
        woken.append(began)
    thread.join()
    assert len(woken) == 1 and woken[0] - began >= 2.5, woken


run(main)
