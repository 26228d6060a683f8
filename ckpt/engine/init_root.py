"""A root that was the init of its pid namespace: the first process of a new one, which nobody in there can create.

The process that makes the namespace starts it as a bare skeleton; the worker, born after it, takes it from there.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from ckpt.errors import RestoreError
from ckpt.kernel import namespaces, uapi
from ckpt.kernel.descriptors import raise_descriptor_limit
from ckpt.trace import stub
from ckpt.trace.skeleton import Skeleton
from ckpt.trace.spawn import take_skeleton


@dataclass(slots=True)
class InitRoot:
    """The root to be; `address` is that of its stub, `numbers` those that the tree needs.

    `settle` gives the worker a /proc that shows the new namespace.
    """

    address: int
    numbers: Collection[int]
    own_session: bool
    settle: Callable[[], None]
    skeleton: Skeleton | None = None
    ready: Callable[[Any], object] = id  # told of the result before the root runs: when that ends, so does the worker

    def start(self) -> int:
        """In the process that has just made the namespaces: its pid as seen there. It is killed when that one ends."""
        raise_descriptor_limit()
        if self.own_session:
            os.setsid()
        old = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            return stub.start(0, self.address)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, old)

    def fits(self) -> bool:
        """In a child of that process: whether the tree leaves this one the pid it has."""
        return os.getpid() not in self.numbers

    def take(self) -> None:
        """In the worker, in good time before the process that started it ends: from here on the two die together."""
        namespaces.die_with_parent(signal.SIGKILL)
        self.settle()
        self.skeleton = take_skeleton(namespaces.INIT, self.address)
        namespaces.die_with_parent(0)

    def with_channel(self, channel: int) -> Skeleton:
        """It fetches the descriptor that others inherit."""
        root = self.skeleton
        if root is None:
            raise RestoreError("the first process of the new pid namespace is missing", hint="report this error")
        worker = root.syscall(uapi.SYS_pidfd_open, os.getpid(), 0)
        got = root.syscall(uapi.SYS_pidfd_getfd, worker, channel, 0)
        root.syscall(uapi.SYS_dup3, got, channel, 0)
        root.syscall(uapi.SYS_close, got)
        root.syscall(uapi.SYS_close, worker)
        return root
