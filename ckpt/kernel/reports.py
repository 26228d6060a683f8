"""What a traced thread reports to wait(2), although another part of this process may have taken the report.

A program that embeds ckpt may wait for all of its children, in a SIGCHLD handler or in a thread of its own. That
wait(2) gives the stops of traced threads too, and nobody is told of a stop twice: then it is the thread that is asked.
"""

from __future__ import annotations

import math
import os
import struct
import time

from ckpt.errors import KernelError
from ckpt.kernel import ptrace_requests as ptrace
from ckpt.kernel import uapi_state as us

_SPINS = 100  # most stops come sooner than a sleeping processor could be woken
_SHORTEST, _LONGEST = 50e-6, 1e-3  # seconds
_siginfo = struct.Struct("<3i")  # si_signo, si_errno, si_code
_STOPPED = 0x7F


def poll(tid: int) -> tuple[int, int]:
    """As os.waitpid with WNOHANG and __WALL: (tid, status), or (0, 0) when there is nothing yet.

    Of a thread that was seen to stop and has not been resumed since, the same stop is told again.
    """
    told = os.waitpid(tid, os.WNOHANG | us.WALL)
    if told[0]:
        return told
    try:
        info = ptrace.getsiginfo(tid)
    except KernelError:
        return 0, 0  # it does not stand
    told = os.waitpid(tid, os.WNOHANG | us.WALL)
    return told if told[0] else (tid, _status(info))


def wait(tid: int, until: float = math.inf) -> int:
    """The status of the thread's next stop, or of its end; ChildProcessError when somebody else was told of that.

    TimeoutError when there is none at `until`, by time.monotonic().
    """
    for _ in range(_SPINS):
        got, status = os.waitpid(tid, os.WNOHANG | us.WALL)
        if got:
            return status
        os.sched_yield()
    started = time.monotonic()
    while True:
        got, status = poll(tid)
        if got:
            return status
        if time.monotonic() > until:
            raise TimeoutError
        # Not os.waitpid without WNOHANG: a report that is taken meanwhile would never come.
        time.sleep(min(max(_SHORTEST, (time.monotonic() - started) / 8), _LONGEST))


def _status(info: bytes) -> int:
    """The wait status of a stop, by its siginfo_t: for events and system calls si_code is what ptrace_notify got."""
    number: int
    number, _, code = _siginfo.unpack_from(info)
    event, trap = code >> 8, code & 0x7F
    if trap == number and (event > 0 or code & 0x80):
        number = code
    return number << 8 | _STOPPED
