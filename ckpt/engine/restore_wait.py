"""Waiting for a restored tree as a shell waits for its job."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ckpt.kernel import uapi_restore
from ckpt.state.files.caller import give_terminal

_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
_FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT)


def wait_for(pid: int, status_fd: int = -1, *, job: bool = False) -> int:
    """Wait for the child `pid`; gives its exit code, or 128 + the signal that ended it.

    With `status_fd` it is the child of another process, which tells its wait status there; the descriptor is closed.
    A `job` that stops (^Z) stops ckpt too, so that the shell hears of it, and goes on with it.

    SIGTERM, SIGHUP, SIGINT and SIGQUIT sent to ckpt meanwhile go to the task. Those of the keyboard are not
    forwarded to a task in ckpt's own process group, for the terminal sends them to both.
    """
    with _forwarding(pid):
        if status_fd >= 0:
            with open(status_fd, "rb") as told:
                status = int.from_bytes(told.read(4) or b"\x09", "little")  # nothing: all of the namespace was killed
            return _exit_status(status)
        while True:
            try:
                _, status = os.waitpid(pid, uapi_restore.WALL | (os.WUNTRACED if job else 0))
            except ChildProcessError:
                return 0  # somebody else in this process has waited for it
            if not os.WIFSTOPPED(status):
                break
            _stop_with(pid)
    return _exit_status(status)


def _exit_status(status: int) -> int:
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _stop_with(pid: int) -> None:
    """Our shell takes the terminal; when it gives it back, the job gets it and goes on."""
    group = os.getpgid(pid)
    if group == os.getpgrp():
        return  # whatever stopped it came to us as well
    os.kill(os.getpid(), signal.SIGSTOP)
    terminal = next((fd for fd in (0, 1, 2) if os.isatty(fd)), None)
    if terminal is not None and os.tcgetpgrp(terminal) == os.getpgrp():
        give_terminal(terminal, group)
    os.killpg(group, signal.SIGCONT)


@contextmanager
def _forwarding(pid: int) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's business
        return

    def forward(number: int, _: FrameType | None) -> None:
        try:
            if number in _FROM_TERMINAL and os.getpgid(pid) == os.getpgid(0):
                return
            os.kill(pid, number)
        except ProcessLookupError:
            pass  # it has just ended: waitpid tells

    old = {number: signal.signal(number, forward) for number in _FORWARDED}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
