"""By which number /proc and system calls know a process whose first thread has ended: a thread that lives.

/proc/PID shows neither memory nor files of such a process, and calls that take a pid find none; both take the tid of
any of its threads instead. The freezer says whose.
"""

from __future__ import annotations

import threading

_living: dict[int, int] = {}  # asked by every thread that copies


class _Noted(threading.local):
    """Each thread of ckpt that freezes has a tree of its own."""

    def __init__(self) -> None:
        self.pids: set[int] = set()


_noted = _Noted()


def note(pid: int, tid: int) -> None:
    """From now on `tid` stands for `pid`."""
    _living[pid] = tid
    _noted.pids.add(pid)


def forget() -> None:
    """Nobody stands for another one any more, in the last tree that this thread froze."""
    for pid in _noted.pids:
        _living.pop(pid, None)
    _noted.pids.clear()


def entry(pid: int) -> int:
    """The number to be used for what process `pid` holds."""
    return _living.get(pid, pid)
