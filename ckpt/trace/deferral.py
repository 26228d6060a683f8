"""Signals that wait: half a thaw would leave the target stopped."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

_ENDING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}  # those that end ckpt wait even without a handler
_ready = False
_came: list[int] | None = None  # while they wait


@contextmanager
def deferrable_signals() -> Iterator[None]:
    """Inside, `deferred_signals` takes no time: the handlers that can wait are installed.

    Blocking the signals in this thread would not do: the kernel would give them to one of the threads that compress,
    and Python's handlers would run here all the same.
    """
    global _ready
    if _ready or threading.current_thread() is not threading.main_thread():
        yield  # handlers run in the main thread only
        return
    found = {number: signal.getsignal(number) for number in signal.valid_signals()}
    # An embedding program's handlers may raise: SIGALRM for a time limit, say.
    old: dict[int, Any] = {
        number: handler
        for number, handler in found.items()
        if callable(handler) or (handler == signal.SIG_DFL and number in _ENDING)
    }

    def handle(number: int, frame: FrameType | None) -> None:
        handler = old[number]
        if _came is not None:
            _came.append(number)
        elif callable(handler):
            handler(number, frame)
        else:
            signal.signal(number, handler)
            signal.raise_signal(number)

    _ready = True
    try:
        for number in old:
            signal.signal(number, handle)
        yield
    finally:
        _ready = False
        for number, handler in old.items():
            signal.signal(number, handler)


@contextmanager
def deferred_signals() -> Iterator[None]:
    """Ctrl-C, SIGTERM, SIGHUP, and whatever a handler of Python's is for, wait until the block is done."""
    global _came
    if _came is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    with deferrable_signals():
        came: list[int] = []
        _came = came
        try:
            yield
        finally:
            _came = None
            with ExitStack() as each:  # one handler that raises does not keep the others
                for late in reversed(dict.fromkeys(came)):
                    each.callback(signal.raise_signal, late)
