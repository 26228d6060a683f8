"""Affinity, nice value and timer slack differ from thread to thread."""

import os
import threading
from pathlib import Path

from target_api import DIR, checkpoint, eventually, prctl, run


def main():
    cpus = sorted(os.sched_getaffinity(0))
    wrong, started = [], threading.Semaphore(0)

    def work(n):
        tid = threading.get_native_id()
        os.sched_setaffinity(tid, {cpus[n % len(cpus)]})
        os.setpriority(os.PRIO_PROCESS, tid, n + 1)
        prctl(29, 60_000 + n)
        started.release()
        eventually((DIR / "go").exists, "go", 600)
        is_now = os.sched_getaffinity(tid), os.getpriority(os.PRIO_PROCESS, tid), prctl(30)
        if is_now != ({cpus[n % len(cpus)]}, n + 1, 60_000 + n):
            wrong.append((n, is_now))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
        started.acquire()
    if checkpoint(same=False):
        wrong.append("tampered")
    for thread in threads:
        thread.join()
    assert not wrong, wrong
    assert os.getpriority(os.PRIO_PROCESS, 0) == 0
    assert prctl(30) == int(Path("/proc/self/timerslack_ns").read_text())


run(main)
