"""ckpt's priority in a freeze."""

from __future__ import annotations

import os

import pytest

from ckpt.trace.urgency import Urgency


def may_raise() -> bool:
    pid = os.fork()
    if pid == 0:
        try:
            os.setpriority(os.PRIO_PROCESS, 0, -20)
            os._exit(0)
        except OSError:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


def nice_of_child() -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(os.getpriority(os.PRIO_PROCESS, 0) + 20)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) - 20


def test_raised_for_this_thread_only_and_put_back() -> None:
    if not may_raise() or os.getpriority(os.PRIO_PROCESS, 0) != 0:
        pytest.skip("this user may not raise its priority, or has another one")
    urgency = Urgency()
    urgency.start()
    try:
        assert os.getpriority(os.PRIO_PROCESS, 0) == -20
        assert nice_of_child() == 0
    finally:
        urgency.end()
    assert os.getpriority(os.PRIO_PROCESS, 0) == 0
    urgency.end()
    assert os.sched_getscheduler(0) == os.SCHED_OTHER  # SCHED_RESET_ON_FORK would be seen here


def test_a_priority_that_was_chosen_is_left_alone() -> None:
    pid = os.fork()
    if pid == 0:
        os.setpriority(os.PRIO_PROCESS, 0, 7)
        urgency = Urgency()
        urgency.start()
        during = os.getpriority(os.PRIO_PROCESS, 0)
        urgency.end()
        os._exit(0 if during == os.getpriority(os.PRIO_PROCESS, 0) == 7 else 1)
    assert os.waitpid(pid, 0)[1] == 0
