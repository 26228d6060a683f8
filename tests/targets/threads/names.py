"""Each thread keeps its name (PR_SET_NAME)."""

import threading
from pathlib import Path

from target_api import call, checkpoint, run


def main():
    gate = threading.Event()

    def work(n):
        call("prctl", 15, b"worker-%d" % n, 0, 0, 0)
        ready.release()
        gate.wait()

    ready = threading.Semaphore(0)
    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
        ready.acquire()
    call("prctl", 15, b"the leader", 0, 0, 0)
    if checkpoint():
        call("prctl", 15, b"other", 0, 0, 0)
    comm = {int(p.parent.name): p.read_text().strip() for p in Path("/proc/self/task").glob("*/comm")}
    assert [comm[t.native_id] for t in threads] == [f"worker-{n}" for n in range(4)]
    assert Path("/proc/self/comm").read_text() == "the leader\n"
    gate.set()


run(main)
