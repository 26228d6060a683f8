"""A child under SCHED_FIFO, one under SCHED_IDLE, and the reset-on-fork flag."""

import os

from target_api import Skip, checkpoint, child, exit_code, forever, run


def main():
    kinds = [
        (os.SCHED_FIFO, 3),
        (os.SCHED_RR | os.SCHED_RESET_ON_FORK, 5),
        (os.SCHED_IDLE, 0),
        (os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, 0),
    ]
    pids = [child(forever) for _ in kinds]
    try:
        for pid, (policy, priority) in zip(pids, kinds, strict=True):
            os.sched_setscheduler(pid, policy, os.sched_param(priority))
    except PermissionError as error:
        raise Skip("real-time scheduling is not allowed") from error
    if checkpoint():
        os.sched_setscheduler(pids[0], os.SCHED_OTHER, os.sched_param(0))
    now = [(os.sched_getscheduler(pid), os.sched_getparam(pid).sched_priority) for pid in pids]
    assert now == kinds, now
    for pid in pids:
        os.kill(pid, 15)
        assert exit_code(pid) == -15


run(main)
