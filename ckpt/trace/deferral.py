"""Signals that wait: half a thaw would leave the target stopped."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_DEFERRED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_under_way = False


@contextmanager
def deferred_signals() -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP wait until the block is done.

    Blocking them in this thread would not do: the kernel would give them to one of the threads that compress, and
    Python's handlers would run here all the same.
    """
    global _under_way
    if _under_way or threading.current_thread() is not threading.main_thread():
        yield  # handlers run in the main thread only
        return
    came: list[int] = []
    old = {number: signal.getsignal(number) for number in _DEFERRED}
    old = {number: handler for number, handler in old.items() if handler not in (None, signal.SIG_IGN)}
    _under_way = True
    try:
        for number in old:
            signal.signal(number, lambda number, _: came.append(number))
        yield
    finally:
        _under_way = False
        for number, handler in old.items():
            signal.signal(number, handler)
        for late in dict.fromkeys(came):
            signal.raise_signal(late)
