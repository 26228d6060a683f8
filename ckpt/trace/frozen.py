"""Tasks and threads that stand still: in a ptrace stop, or in vfork for a child that does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ckpt.records.seams import LiveTask
from ckpt.trace.remote import LiveRemote, Site
from ckpt.trace.vforks import HeldRemote


@dataclass
class FrozenThread:
    """A thread in a ptrace stop."""

    pid: int
    tid: int
    stop_signal: int = 0  # the signal of its group-stop, 0 when it was running or sleeping
    stopped: bool = False
    gpr: bytes = b""  # NT_PRSTATUS as it stands in the freeze, remote syscalls apart
    remote: LiveRemote | HeldRemote | None = None
    child: Callable[[], LiveTask] | None = None  # of one that waits in vfork, and is not stopped


@dataclass
class FrozenTask:
    """A process all of whose living threads are in a ptrace stop, but for those of the kernel's."""

    pid: int
    threads: dict[int, FrozenThread] = field(default_factory=dict)
    leader_exited: bool = False
    workers: set[int] = field(default_factory=set)  # threads of io_uring, which are left alone
    site: Site = field(default_factory=Site)
    _sorted: tuple[list[int], list[int]] = ([], [])  # the threads' keys, and in order: asked for with each thread

    @property
    def tids(self) -> list[int]:
        """Living threads, the leader first."""
        keys = list(self.threads)
        if self._sorted[0] != keys:
            self._sorted = keys, sorted(keys, key=lambda tid: (tid != self.pid, tid))
        return self._sorted[1]

    @property
    def stop_signal(self) -> int:
        return next((t.stop_signal for t in self.threads.values() if t.stop_signal), 0)

    @property
    def held(self) -> bool:
        """Whether its first thread waits in vfork."""
        return self.threads[self.tids[0]].child is not None

    def remote(self, tid: int | None = None) -> LiveRemote | HeldRemote:
        """Remote syscalls in one thread (the leader when None), crash-safe; made on first use."""
        thread = self.threads[tid if tid is not None else self.tids[0]]
        if thread.remote is None and thread.child is not None:
            thread.remote = HeldRemote(thread.pid, thread.tid, thread.child)
        elif thread.remote is None:
            thread.remote = LiveRemote(thread.pid, thread.tid, self.site)
        return thread.remote
