"""Locks held by one thread over the checkpoint exclude the others afterwards."""

import threading

from target_api import checkpoint, run


def main():
    lock, rlock, order = threading.Lock(), threading.RLock(), []
    lock.acquire()
    rlock.acquire()
    rlock.acquire()

    def work(which, name):
        with which:
            order.append(name)

    threads = [threading.Thread(target=work, args=(lock, "lock")), threading.Thread(target=work, args=(rlock, "rlock"))]
    for thread in threads:
        thread.start()
    if checkpoint():
        lock.release()
        threads[0].join()
    assert not order
    rlock.release()
    assert not order
    rlock.release()
    lock.release()
    for thread in threads:
        thread.join()
    assert sorted(order) == ["lock", "rlock"]


run(main)
