"""What collecting and restoring share: the frozen tree on one side, the tree being built on the other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol

from ckpt.errors import Refusal
from ckpt.records.base import Record
from ckpt.records.files import FdTable, FileRecord
from ckpt.records.seams import ImageView, LiveTask, RemoteTask

GHOST_LIMIT = 16 << 20


@dataclass(frozen=True, slots=True)
class DumpOptions:
    """What the user allows; the flags of `ckpt dump`."""

    tcp_established: bool = False
    ext_unix: bool = False
    shell_job: bool = False
    ext_pipe: bool = False
    ghost_limit: int = GHOST_LIMIT  # bytes of a deleted file that may be kept in the image
    tcp_close: bool = False


class FrozenTaskLike(Protocol):
    """A frozen process: every thread is stopped."""

    @property
    def pid(self) -> int: ...

    @property
    def workers(self) -> Collection[int]:
        """Threads of the kernel's in it, which work for an io_uring and are not stopped."""

    @property
    def tids(self) -> Sequence[int]: ...

    @property
    def held(self) -> bool:
        """Whether the first thread waits in vfork: its remote answers a few questions, and makes no calls."""

    def remote(self, tid: int | None = None) -> LiveTask:
        """Remote syscalls in one thread (the leader when None), crash-safe; made on first use."""


@dataclass
class CollectContext:
    """The state of one collection; lives as long as the freeze."""

    tasks: Sequence[FrozenTaskLike]  # parents before children; zombies are not among them
    options: DumpOptions = field(default_factory=DumpOptions)
    refusals: list[Refusal] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)  # whatever a kind wants in the image beside its payload
    shared: dict[str, Any] = field(default_factory=dict)  # what the modules remember; keys start with the kind
    blobs: dict[str, Callable[[], bytes]] = field(default_factory=dict)
    stack: ExitStack = field(default_factory=ExitStack)  # closed after the thaw: stolen descriptors and the like

    def task(self, pid: int) -> FrozenTaskLike:
        """The frozen task with this pid."""
        return next(task for task in self.tasks if task.pid == pid)

    def refuse(self, pid: int, subject: str, reason: str, hint: str | None = None, *, passing: bool = False) -> None:
        """Note something that cannot be restored; all of it is raised together, before anything is changed.

        `passing`: the task may be out of this state a moment later, and the dump is tried again.
        """
        self.refusals.append(Refusal(pid, subject, reason, hint, passing))


@dataclass
class RestoreContext:
    """The state of one restore. Files are opened in ckpt itself and handed to the tasks afterwards."""

    view: ImageView
    pids: frozenset[int]  # every pid of the tree
    shared: dict[str, Any] = field(default_factory=dict)
    files: dict[int, FileRecord] = field(default_factory=dict)  # by file_id
    tables: dict[int, FdTable] = field(default_factory=dict)  # by table_id
    opened: dict[int, int] = field(default_factory=dict)  # file_id -> descriptor in ckpt
    stack: ExitStack = field(default_factory=ExitStack)
    opened_hooks: list[Callable[[], None]] = field(default_factory=list)
    finished_hooks: list[Callable[[], None]] = field(default_factory=list)
    installed_hooks: list[tuple[int, Callable[[RemoteTask], None]]] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # what could not be kept, for the user
    acting: Callable[..., AbstractContextManager[RemoteTask | None]] | None = None
    """The task with a pid, or a helper that has the number for the moment, or None: it is somebody else's. A second
    argument is the pid of the helper's parent."""

    def when_opened(self, hook: Callable[[], None]) -> None:
        """Run `hook` in ckpt when every file is open there (queued data, peers, descriptors in flight)."""
        self.opened_hooks.append(hook)

    def when_finished(self, hook: Callable[[], None]) -> None:
        """Run `hook` in ckpt when memory, tables and threads stand, while the files are still open there."""
        self.finished_hooks.append(hook)

    def when_installed(self, pid: int, hook: Callable[[RemoteTask], None]) -> None:
        """Run `hook` in task `pid` when its descriptors stand at their numbers (epoll_ctl, locks, TIOCSCTTY)."""
        self.installed_hooks.append((pid, hook))
