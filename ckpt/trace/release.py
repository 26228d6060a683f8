"""Letting go of frozen threads, or of killed ones."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

from ckpt.errors import CkptError, KernelError
from ckpt.kernel import ptrace_requests as ptrace
from ckpt.kernel import reports, uapi
from ckpt.kernel import uapi_state as us
from ckpt.kernel.wakeups import Wakeups
from ckpt.trace import waits
from ckpt.trace.frozen import FrozenThread

GROUP_STOPS = {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
_DETACH_PATIENCE = 0.2  # seconds


def kill(pid: int, number: int) -> None:
    """kill(2), of a process that may be gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it has ended: there is nothing to stop or end


def release(thread: FrozenThread, wakeups: Wakeups) -> None:
    """Put back what remote syscalls changed, and let the thread go on."""
    if not thread.stopped:
        return
    try:
        if thread.remote is not None:
            thread.remote.close()
        if thread.gpr and not thread.stop_signal:  # it stood before
            waits.go_on(thread.tid, thread.gpr, wakeups)
    except CkptError:
        pass  # it was killed in the freeze
    if thread.gpr or not _detach_unseen(thread.tid):
        detach(thread.tid)
    thread.stopped = False
    thread.remote = None


def _detach_unseen(tid: int) -> bool:
    """Let go of a thread whose stop nobody has waited for yet: a signal that came first is not lost, and a call that
    the stop interrupted goes on. False when it does not stand, or is no more."""
    end = time.monotonic() + _DETACH_PATIENCE
    with suppress(ChildProcessError, KernelError):
        while not (told := reports.poll(tid))[0] and time.monotonic() < end:
            time.sleep(0.0002)
        if told[0] and os.WIFSTOPPED(told[1]):
            event, number = told[1] >> 16, os.WSTOPSIG(told[1]) & 0x7F
            if event == uapi.PTRACE_EVENT_STOP and number not in GROUP_STOPS:
                waits.make_restartable(tid)
            ptrace.detach(tid, _signal(told[1]))
            return True
    return False


def _signal(status: int) -> int:
    """The signal that a stop is about; 0 of one that an event or a system call of ckpt's (SIGTRAP | 0x80) is."""
    number = os.WSTOPSIG(status)
    return 0 if status >> 16 or number & 0x80 else number


def detach(tid: int) -> None:
    """Let go of a thread that stands, is about to, or was killed: its parent hears of its end only when we reap it."""
    number = 0
    asked = False
    end = time.monotonic() + _DETACH_PATIENCE
    while True:
        try:
            ptrace.detach(tid, number)
            return
        except KernelError:  # it does not stand
            if not asked:
                asked = True
                with suppress(KernelError):
                    ptrace.interrupt(tid)  # it may be in a call of ckpt's that does not come back
        try:
            got, status = os.waitpid(tid, os.WNOHANG | us.WALL)
        except ChildProcessError:
            return
        if got and not os.WIFSTOPPED(status):
            return
        number = _signal(status) if got else 0
        if not got:
            if time.monotonic() > end:
                return  # it cannot stop; when it can, it will not: the kernel lets go of it when ckpt ends
            time.sleep(0.0002)
