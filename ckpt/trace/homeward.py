"""A thread that stands in frames of a ckpt that has died: stopped before it had put itself back, or caught just then.

Its registers are not its own yet, and what a remote syscall writes would stand where its way back does.
"""

from __future__ import annotations

import os
import time

from ckpt.errors import KernelError, RemoteCallError
from ckpt.kernel import ptrace_requests as ptrace
from ckpt.kernel import uapi
from ckpt.kernel.memory import Memory
from ckpt.trace import sigframe
from ckpt.trace.sigframe import RSP
from ckpt.trace.stepper import Stepper

_NEARLY_ALL = 61  # signals; KILL and STOP cannot be blocked, and one may be let through
_LONG = 10.0  # seconds; the longest call on the way is a fork
_BEFORE = 48  # bytes that may stand between the stack pointer and the mark: code to return to, and the flags


def lead(pid: int, tid: int) -> None:
    """Of a thread that has just stopped: let it go the rest of its way, and stand there."""
    if not _on_the_way(tid):
        return
    stepper = Stepper(pid, tid, patience=_LONG)
    end, runs = time.monotonic() + _LONG, False
    try:
        while _on_the_way(tid) and time.monotonic() < end:
            stepper.step()
    except RemoteCallError:
        runs = True  # in a call of its own, beside the rest of such a frame
    stepper.stand(runs=runs)
    for number in stepper.held:
        os.kill(pid, number)


def _on_the_way(tid: int) -> bool:
    """Whether its stack leads into a frame of ckpt's, on which every signal but one is blocked."""
    if ptrace.getsigmask(tid).bit_count() < _NEARLY_ALL:
        return False
    gpr = ptrace.getregset(tid, uapi.NT_PRSTATUS)
    if sigframe.is_foreign(gpr):
        return False
    pointer = sigframe.unpack(gpr)[RSP]
    try:
        with Memory(tid) as memory:
            above = memory.read(pointer, _BEFORE + len(sigframe.MARK))
    except KernelError:
        return False  # it has no stack there
    return any(above.startswith(sigframe.MARK, at) for at in range(0, _BEFORE + 1, 8))
