"""Threads that wait on a condition, a semaphore, a barrier and a queue are all woken later."""

import queue
import threading

from target_api import checkpoint, run


def main():
    done, condition, semaphore = [], threading.Condition(), threading.Semaphore(0)
    barrier, items = threading.Barrier(2), queue.Queue()

    def wait_condition():
        with condition:
            condition.wait_for(lambda: "set" in done)
        done.append("condition")

    work = [
        wait_condition,
        lambda: semaphore.acquire() and done.append("semaphore"),
        lambda: barrier.wait() >= 0 and done.append("barrier"),
        lambda: done.append(items.get()),
    ]
    threads = [threading.Thread(target=function) for function in work]
    for thread in threads:
        thread.start()
    if checkpoint():
        items.put("wrong")
    with condition:
        done.append("set")
        condition.notify_all()
    semaphore.release()
    barrier.wait()
    items.put("queue")
    for thread in threads:
        thread.join()
    assert sorted(done) == ["barrier", "condition", "queue", "semaphore", "set"], done


run(main)
