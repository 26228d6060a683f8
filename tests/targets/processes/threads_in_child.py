"""A child with threads of its own, and threads in the parent."""

import threading

from target_api import DIR, checkpoint, child, eventually, exit_code, run


def crew(n, results):
    gate = DIR / "go"
    threads = [
        threading.Thread(target=lambda: eventually(gate.exists, "go", 600) or results.append(1)) for _ in range(n)
    ]
    for thread in threads:
        thread.start()
    return threads


def family():
    results = []
    for thread in crew(4, results):
        thread.join()
    return len(results)


def main():
    pids = [child(family) for _ in range(3)]
    results = []
    threads = crew(3, results)
    if checkpoint(same=False):
        results.append(0)
    for thread in threads:
        thread.join()
    assert len(results) == 3 and [exit_code(pid) for pid in pids] == [4, 4, 4]


run(main)
