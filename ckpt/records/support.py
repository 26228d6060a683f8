"""What ckpt keeps of a kind of state: one line in the module that does it, printed into the README by gen_tables.

A module that collects or restores a kind of state says `SUPPORT = Support("pipes", "eventfd", "the count")`. What it
refuses is read from its own `refuse(…)` calls; `refused` replaces that where the calls make their words at run time.
"""

from __future__ import annotations

from dataclasses import dataclass

AREAS = (
    "tasks",
    "memory",
    "registers",
    "signals",
    "timers",
    "identity",
    "files",
    "pipes",
    "sockets",
    "terminals",
    "ipc",
)
"""The order of the README's table."""


@dataclass(frozen=True, slots=True)
class Support:
    """One row: the area, the kind of state, what is kept of it, what is refused, what is lost without a word."""

    area: str
    state: str
    kept: str
    refused: str | None = None
    lost: str = ""
