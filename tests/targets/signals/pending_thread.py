"""Signals pending for single threads, apart from those of the process."""

import os
import signal
import threading
import time

from target_api import DIR, checkpoint, run


def main():
    number, got, started = signal.SIGRTMIN + 1, {}, threading.Semaphore(0)
    signal.pthread_sigmask(signal.SIG_SETMASK, {number, signal.SIGUSR1})

    def work(n):
        started.release()
        while not (DIR / "go").exists():
            time.sleep(0.02)
        count = 0
        while signal.sigtimedwait({number}, 0):
            count += 1
        got[n] = count

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for n, thread in enumerate(threads):
        thread.start()
        started.acquire()
        for _ in range(n):
            signal.pthread_kill(thread.ident, number)
    os.kill(os.getpid(), signal.SIGUSR1)
    if checkpoint(same=False):
        signal.sigwait({signal.SIGUSR1})
    for thread in threads:
        thread.join()
    assert got == {0: 0, 1: 1, 2: 2}, got
    assert signal.sigpending() == {signal.SIGUSR1}


run(main)
