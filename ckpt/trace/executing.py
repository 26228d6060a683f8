"""Threads that execute a program while their task is being frozen.

Such a thread kills the others of its task and waits until their tracer has heard of it, then takes over the first
one's tid. Until it is done a PTRACE_SEIZE of any thread of the task waits too, and no signal ends that
(cred_guard_mutex; fs/exec.c: de_thread, kernel/ptrace.c: ptrace_attach). So a thread of ckpt's own reaps what was
killed whenever a seize takes long.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Collection, Iterable
from contextlib import suppress

from ckpt.errors import KernelError, NoSuchTask
from ckpt.kernel import procfs, uapi
from ckpt.kernel import ptrace_requests as ptrace
from ckpt.kernel import uapi_state as us

_LONG = 0.02  # seconds
_ATTEMPTS = 5
_ENDS = (os.CLD_EXITED, os.CLD_KILLED, os.CLD_DUMPED)


def reap(tids: Iterable[int]) -> list[int]:
    """Those of the traced threads that are dead, now let go of; stops that wait to be told are left alone.

    To a tracer waitid tells stops whether it asks for them or not.
    """
    dead = []
    for tid in tids:
        try:
            told = os.waitid(os.P_PID, tid, os.WEXITED | os.WNOHANG | os.WNOWAIT | us.WALL)
            if told is not None and told.si_code in _ENDS:
                os.waitid(os.P_PID, tid, os.WEXITED | os.WNOHANG | us.WALL)
                dead.append(tid)
        except ChildProcessError:
            dead.append(tid)
    return dead


def stands(tid: int) -> bool:
    """Whether a thread is in a stop of ckpt's."""
    try:
        ptrace.getsigmask(tid)
    except KernelError:
        return False
    return True


class SeizeWatch:
    """Reaps the dead among the threads seized so far while a seize waits for an exec."""

    def __init__(self) -> None:
        self._seized: Collection[int] = ()
        self._since = 0.0
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        self.interrupted_ns = 0  # when the first thread was asked to stop

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

    def end(self) -> None:
        self._end.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def seize(self, pid: int, tid: int, seized: Collection[int]) -> bool:
        """PTRACE_SEIZE and PTRACE_INTERRUPT; False when the thread has ended. `seized`: threads of the same task.

        EPERM comes also of a thread that has just died, whose tid may be another's in a moment; and of one that was
        seized by its old tid, before it executed a program.
        """
        attempts = 0
        while True:
            self._seized, self._since = seized, time.monotonic()
            try:
                ptrace.seize(tid, uapi.PTRACE_O_TRACESYSGOOD)
                return self._interrupt(tid)
            except KernelError as error:
                if error.errno == errno.EPERM and _traced_here(pid, tid):
                    return stands(tid) or self._interrupt(tid)
                attempts += 1
                if error.errno == errno.ESRCH or ended(pid, tid):
                    return False
                if error.errno != errno.EPERM or attempts == _ATTEMPTS:
                    raise
                time.sleep(0.001)
            finally:
                self._since = 0.0

    def _interrupt(self, tid: int) -> bool:
        self.interrupted_ns = self.interrupted_ns or time.perf_counter_ns()
        with suppress(KernelError):  # it has died since: that is told like any other end
            ptrace.interrupt(tid)
        return True

    def _run(self) -> None:
        while not self._end.wait(_LONG):
            since = self._since
            if since and time.monotonic() - since > _LONG:
                reap(list(self._seized))


def ended(pid: int, tid: int) -> bool:
    """Whether a thread is gone, or as good as."""
    try:
        return procfs.state(pid, tid) in "ZX"
    except NoSuchTask:
        return True


def over(pid: int, *, patient: bool) -> bool:
    """Whether a process that seemed to have ended has: not while one of its threads takes over the first one's tid."""
    for _ in range(_ATTEMPTS if patient else 1):
        if not ended(pid, pid):
            return False
        if patient:
            time.sleep(0.001)
    return True


def _traced_here(pid: int, tid: int) -> bool:
    try:
        return procfs.status(pid, tid).get("TracerPid") == str(os.getpid())
    except NoSuchTask:
        return False
