"""How long work tells how far it is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called with the phase ("copy", "merge", "verify", "restore"), what is done and the total, in pages or bytes."""

    def __call__(self, phase: str, done: int, total: int) -> None: ...
