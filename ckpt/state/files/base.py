"""What a kind of file is to the dump and to the restore.

A kind is a module-level object with the methods of `FileKind`, listed in `ckpt.state.files.kinds.KINDS`; the
first whose `recognises` says yes collects the file. One FileView stands for one open file description:
descriptors that share it (kcmp KCMP_FILE) are found before.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from ckpt.kernel.standins import entry
from ckpt.records.base import Record
from ckpt.records.files import FileRecord
from ckpt.state.context import CollectContext, RestoreContext


@dataclass
class FileView:
    """One open file description of a frozen task, seen through one of its descriptors."""

    file_id: int
    pid: int
    fd: int
    link: str  # readlink of /proc/PID/fd/FD
    stat: os.stat_result  # of the open file (follows the magic link)
    flags: int  # O_*, without O_CLOEXEC
    pos: int
    info: dict[str, list[str]]  # fdinfo: key -> the values of its lines, in order
    users: list[tuple[int, int]] = field(default_factory=list)  # every (pid, fd) in the tree that refers to it
    magic: str = ""  # the magic link of a file without a descriptor (a mapping, exe); fd is -1 then
    in_flight_of: int = 0  # the task in whose socket ckpt found it; pid and fd are ckpt's own then

    @property
    def subject(self) -> str:
        """How errors name it: "fd 7 (/path)"."""
        if self.magic:
            return f"{self.magic.rsplit('/', 1)[1]} ({self.link})"
        return f"fd {self.fd} ({self.link})"

    @property
    def proc_path(self) -> str:
        """The magic link in /proc that leads to the file."""
        return self.magic or f"/proc/{entry(self.pid)}/fd/{self.fd}"

    def steal(self, context: CollectContext) -> int:
        """A descriptor in ckpt for the same description (pidfd_getfd); closed with the context."""
        key = f"stolen:{self.file_id}"
        if key not in context.shared:
            if self.pid == os.getpid() and not self.magic:
                return self.fd
            fd = self._steal(context)
            context.stack.callback(os.close, fd)
            context.shared[key] = fd
        return int(context.shared[key])

    @contextmanager
    def stolen(self, context: CollectContext) -> Iterator[int]:
        """`steal` for a moment: while ckpt holds an end of a pipe, the other side never sees it close."""
        key = f"stolen:{self.file_id}"
        if key in context.shared or (self.pid == os.getpid() and not self.magic):
            yield self.steal(context)
            return
        fd = self._steal(context)
        try:
            yield fd
        finally:
            os.close(fd)

    def _steal(self, context: CollectContext) -> int:
        from ckpt.kernel.descriptors import open_magic, pidfd_getfd, pidfd_of_holder

        if self.magic:
            return open_magic(self.magic, os.O_RDONLY)
        key = f"pidfd:{self.pid}"
        if key not in context.shared:
            pidfd = pidfd_of_holder(self.pid)
            context.stack.callback(os.close, pidfd)
            context.shared[key] = pidfd
        return pidfd_getfd(context.shared[key], self.fd)


class FileKind(Protocol):
    """One kind of open file: collect and restore side by side."""

    kind: str

    def recognises(self, view: FileView) -> bool: ...

    def collect(self, view: FileView, context: CollectContext) -> Record:
        """The payload; calls `context.refuse` for what cannot be restored. Must not change the target."""

    def restore(self, file: FileRecord, context: RestoreContext) -> int:
        """A descriptor in ckpt for the rebuilt description. The caller sets the file position (when `pos` is
        seekable, and but for /proc), F_SETFL flags, F_SETOWN_EX and F_SETSIG. Raises RestoreError."""
