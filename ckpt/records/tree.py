"""The record of the tree as a whole."""

from __future__ import annotations

from ckpt.records.base import record


@record("tree")
class TreeRecord:
    """The whole tree: which tasks, in which order born; the clocks at the dump."""

    root_pid: int
    pids: tuple[int, ...]  # parents before children
    monotonic_ns: int = 0  # CLOCK_MONOTONIC at the dump
    boottime_ns: int = 0
    realtime_ns: int = 0
    monotonic_offset_ns: int = 0  # of the time namespace in which the tree was: that much more than the kernel's clock
    boottime_offset_ns: int = 0


@record("namespace")
class NamespaceRecord:
    """A namespace that the tree made for itself, and what is in it."""

    kind: str  # uts | net | ipc
    members: tuple[tuple[int, int], ...]  # pid and tid of each thread that is in it
    nodename: bytes = b""  # uts
    domainname: bytes = b""
    loopback_up: bool = False  # net
