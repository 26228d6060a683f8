"""The steps by which a tree is built, as `plan` orders them and `rebuild` takes them."""

from __future__ import annotations

from dataclasses import dataclass

OUTSIDE = 0
"""In place of a session, group or parent: ckpt's own."""


@dataclass(frozen=True, slots=True)
class Create:
    """`creator` clones `pid` (negative: a helper whose number the kernel chooses)."""

    pid: int
    creator: int  # OUTSIDE: ckpt starts the root
    flags: int = 0
    exit_signal: int = 0
    helper: bool = False
    thread: int = 0  # of the creator, the child's parent; 0: its leader


@dataclass(frozen=True, slots=True)
class SetSid:
    pid: int


@dataclass(frozen=True, slots=True)
class SetPgid:
    pid: int
    pgid: int


@dataclass(frozen=True, slots=True)
class LeaveTable:
    """`pid` has the descriptor table of an ancestor for the sake of its children: now it gets one of its own."""

    pid: int
    table: int  # that it has until now


@dataclass(frozen=True, slots=True)
class EndHelper:
    """The helper exits and is reaped by `reaper`, its parent; its child passes to `adopter` (OUTSIDE: away)."""

    pid: int
    reaper: int
    adopter: int


@dataclass(frozen=True, slots=True)
class EndZombie:
    pid: int
    status: int


Step = Create | SetSid | SetPgid | LeaveTable | EndHelper | EndZombie
