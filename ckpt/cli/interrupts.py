"""Ctrl-C, SIGTERM and SIGHUP: the command undoes what it has begun, and ends with 128 + the signal's number."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """Raised wherever the command is when the signal comes. No Exception: nothing may take it for a failed step."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        self.exit_code = 128 + number

    def as_dict(self) -> dict[str, object]:
        """As CkptError.as_dict."""
        return {"type": "Interrupted", "message": self.message, "hint": None, "exit_code": self.exit_code}

    @property
    def message(self) -> str:
        return f"interrupted by {signal.Signals(self.number).name}; nothing half-done was left behind"


@contextmanager
def interruptible() -> Iterator[None]:
    """The first signal is raised as Interrupted; the next ones wait for what that undoes."""
    came = False

    def once(number: int, _: FrameType | None) -> None:
        nonlocal came
        if not came:
            came = True
            raise Interrupted(number)

    old = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, handler in old.items():
        if handler is not signal.SIG_IGN:  # under nohup, or in the background of a script, it stays ignored
            signal.signal(number, once)
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
