"""Thread-local storage: Python's, errno, pthread_self and the thread id."""

import ctypes
import threading
import time

from target_api import DIR, checkpoint, libc, run


def main():
    local, failed, started = threading.local(), [], threading.Semaphore(0)
    libc.pthread_self.restype = ctypes.c_long

    def work(n):
        local.value = n
        ctypes.set_errno(n + 100)
        before = libc.pthread_self(), threading.get_native_id()
        started.release()
        while not (DIR / "go").exists():
            time.sleep(0.02)
        if local.value != n or ctypes.get_errno() != n + 100:
            failed.append(n)
        if before != (libc.pthread_self(), threading.get_native_id()):
            failed.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
        started.acquire()
    local.value = "main"
    if checkpoint(same=False):
        failed.append("tampered")
    for thread in threads:
        thread.join()
    assert not failed and local.value == "main", failed


run(main)
