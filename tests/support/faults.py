"""Death at a chosen boundary: ckpt kills itself before its n-th call that can change a task, the host or a chain.

Nothing in ckpt knows of it: the functions through which it makes such calls are wrapped in the process that runs it.
"""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Callable
from typing import Any

_GETSIGINFO = 0x4202

_PLACES: tuple[tuple[Any, str], ...] = tuple(
    (os, name)
    for name in (
        *("waitpid", "pwrite", "write", "fsync", "rename", "replace", "unlink", "open", "kill"),
        *("ftruncate", "posix_spawn", "pipe2", "mkdir"),
    )
)


def install(at: int) -> Callable[[], list[str]]:
    """Die before call number `at` (from 1; 0: never); what is given back names the calls made so far.

    Those of the rehearsal, which touches neither target nor chain, do not count: how many there are differs.
    """
    from ckpt.engine import round as rounds
    from ckpt.kernel import libc, ptrace_requests

    made: list[str] = []
    rehearsing = False
    rehearse = rounds.rehearse

    def rehearsed(*args: Any, **kwargs: Any) -> None:
        nonlocal rehearsing
        rehearsing = True
        try:
            rehearse(*args, **kwargs)
        finally:
            rehearsing = False

    rounds.rehearse = rehearsed

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            # What is asked until it answers; how often differs.
            asked = (name == "waitpid" and made and made[-1] == name) or (name, args[0]) == ("ptrace", _GETSIGINFO)
            if rehearsing or asked:
                return function(*args, **kwargs)
            made.append(f"{name} {args[0]!r}" if name in ("ptrace", "_syscall") else name)
            if 0 < at <= len(made):  # threads count too
                kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    kill = os.kill
    for module, name in (*_PLACES, (fcntl, "ioctl"), (libc, "_syscall"), (ptrace_requests, "ptrace")):
        setattr(module, name, counted(name, getattr(module, name)))
    return lambda: made
