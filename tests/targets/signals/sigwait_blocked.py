"""A thread blocked in sigwait, another in sigwaitinfo."""

import os
import signal
import threading

from target_api import checkpoint, run


def main():
    got = []
    signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGUSR1, signal.SIGUSR2})
    threads = [
        threading.Thread(target=lambda: got.append(signal.sigwait({signal.SIGUSR1}))),
        threading.Thread(target=lambda: got.append(signal.sigwaitinfo({signal.SIGUSR2}).si_signo)),
    ]
    for thread in threads:
        thread.start()
    if checkpoint():
        os.kill(os.getpid(), signal.SIGUSR1)
        threads[0].join()
    assert not got
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        os.kill(os.getpid(), number)
    for thread in threads:
        thread.join()
    assert sorted(got) == [signal.SIGUSR1, signal.SIGUSR2]


run(main)
