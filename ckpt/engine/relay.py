"""Between the terminal of a restored session, whose master ckpt holds, and the terminal that ckpt is called from."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ckpt.kernel import ttys
from ckpt.kernel import uapi_tty as t
from ckpt.kernel.descriptors import pidfd_open

_ROOM = 1 << 16


def relay(master: int, pid: int) -> None:
    """Copy until the child `pid` has ended and all that it wrote is shown; closes `master`."""
    watch = pidfd_open(pid)
    try:
        with _raw(0), _resized(master):
            _copy(master, watch)
    finally:
        os.close(watch)
        os.close(master)


def _copy(master: int, watch: int) -> None:
    sources = [master, watch, 0]
    while True:
        ready, _, _ = select.select(sources, [], [])
        if 0 in ready:
            typed = _read(0)
            if typed:
                os.write(master, typed)
            else:
                sources.remove(0)
        if master in ready and not _show(master):
            sources.remove(master)  # every slave is closed
        if watch in ready:
            while select.select([master], [], [], 0)[0] and _show(master):
                pass
            return


def _show(master: int) -> bool:
    data = _read(master)
    while data:
        data = data[os.write(1, data) :]
        if not data:
            return True
    return False


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, _ROOM)
    except OSError:
        return b""


@contextmanager
def _raw(fd: int) -> Iterator[None]:
    """Every key goes to the session; our own terminal comes back as it was."""
    if not os.isatty(fd):
        yield
        return
    before = termios.tcgetattr(fd)
    tty.setraw(fd, termios.TCSADRAIN)  # what was typed already stays
    try:
        yield
    finally:
        with contextlib.suppress(termios.error):
            termios.tcsetattr(fd, termios.TCSADRAIN, before)


@contextmanager
def _resized(master: int) -> Iterator[None]:
    """The session's terminal has the size of ours."""

    def resize(_number: int = 0, _frame: FrameType | None = None) -> None:
        if os.isatty(0):
            ttys.set_bytes(master, t.TIOCSWINSZ, ttys.get_bytes(0, t.TIOCGWINSZ, t.WINSIZE_SIZE))

    old = signal.signal(signal.SIGWINCH, resize)
    try:
        resize()
        yield
    finally:
        signal.signal(signal.SIGWINCH, old if old is not None else signal.SIG_DFL)
