"""What a kind of file is to the dump and to the restore.

A kind is a module-level object with the methods of `FileKind`, listed in `ckpt.state.files.kinds.KINDS`; the first
whose `recognises` says yes collects the file. One FileView stands for one open file description: descriptors that
share it (kcmp KCMP_FILE) are found before.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Protocol

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

    @property
    def subject(self) -> str:
        """How errors name it: "fd 7 (/path)"."""
        return f"fd {self.fd} ({self.link})"

    def steal(self, context: CollectContext) -> int:
        """A descriptor in ckpt for the same description (pidfd_getfd); closed with the context."""
        from ckpt.kernel.descriptors import steal_descriptor

        key = f"stolen:{self.file_id}"
        if key not in context.shared:
            fd = steal_descriptor(self.pid, self.fd)
            context.stack.callback(os.close, fd)
            context.shared[key] = fd
        return int(context.shared[key])


class FileKind(Protocol):
    """One kind of open file: collect and restore side by side."""

    kind: str

    def recognises(self, view: FileView) -> bool: ...

    def collect(self, view: FileView, context: CollectContext) -> Record:
        """The payload; calls `context.refuse` for what cannot be restored. Must not change the target."""

    def restore(self, file: FileRecord, context: RestoreContext) -> int:
        """A descriptor in ckpt for the rebuilt description. The caller sets the file position (when `pos` is
        seekable), F_SETFL flags, F_SETOWN_EX and F_SETSIG. Raises RestoreError."""
