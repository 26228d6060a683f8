"""By which number /proc and system calls know a process whose first thread has ended: a thread that lives.

/proc/PID shows neither memory nor files of such a process, and calls that take a pid find none; both take the tid of
any of its threads instead. The freezer says whose.
"""

from __future__ import annotations

_living: dict[int, int] = {}


def note(pid: int, tid: int) -> None:
    """From now on `tid` stands for `pid`."""
    _living[pid] = tid


def forget() -> None:
    """Nobody stands for another one any more."""
    _living.clear()


def entry(pid: int) -> int:
    """The number to be used for what process `pid` holds."""
    return _living.get(pid, pid)
