"""Nice value, policy, affinity, I/O priority and oom_score_adj."""

import os
from pathlib import Path

from target_api import checkpoint, libc, run


def view():
    adjust = Path("/proc/self/oom_score_adj").read_text().strip()
    return (
        os.getpriority(os.PRIO_PROCESS, 0),
        os.sched_getscheduler(0),
        os.sched_getaffinity(0),
        adjust,
        libc.syscall(252, 1, 0),
    )


def main():
    cpu = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpu})
    os.nice(7)
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    Path("/proc/self/oom_score_adj").write_text("321")
    libc.syscall(251, 1, 0, 3 << 13)
    before = view()
    if checkpoint():
        os.nice(1)
    assert view() == before == (7, os.SCHED_BATCH, {cpu}, "321", 3 << 13), view()


run(main)
