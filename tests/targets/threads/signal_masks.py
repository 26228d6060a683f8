"""Every thread has a signal mask of its own."""

import signal
import threading
import time

from target_api import DIR, checkpoint, run


def main():
    wrong, started = [], threading.Semaphore(0)

    def work(number):
        signal.pthread_sigmask(signal.SIG_SETMASK, {number, signal.SIGUSR1})
        started.release()
        while not (DIR / "go").exists():
            time.sleep(0.02)
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        if mask != {number, signal.SIGUSR1}:
            wrong.append((number, mask))

    numbers = [signal.SIGUSR2, signal.SIGTERM, signal.SIGRTMIN + 3, signal.SIGHUP]
    threads = [threading.Thread(target=work, args=(number,)) for number in numbers]
    for thread in threads:
        thread.start()
        started.acquire()
    signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGALRM})
    if checkpoint(same=False):
        wrong.append("tampered")
    for thread in threads:
        thread.join()
    assert not wrong and signal.pthread_sigmask(signal.SIG_BLOCK, []) == {signal.SIGALRM}, wrong


run(main)
