"""multiprocessing: a queue with items in it, a lock, an event and shared values."""

import multiprocessing

from target_api import checkpoint, run, wait_for_go


def work(queue, lock, value, event):
    wait_for_go()
    event.wait()
    with lock:
        value.value += queue.get()


def main():
    context = multiprocessing.get_context("fork")
    queue, lock, value, event = context.Queue(), context.Lock(), context.Value("i", 100), context.Event()
    for n in (1, 2, 3):
        queue.put(n)
    workers = [context.Process(target=work, args=(queue, lock, value, event)) for _ in range(3)]
    for worker in workers:
        worker.start()
    if checkpoint(same=False):
        value.value = 0
    event.set()
    for worker in workers:
        worker.join()
    assert value.value == 106 and [w.exitcode for w in workers] == [0, 0, 0]


run(main)
