"""signalfd(2): a signal mask; the signals themselves are the task's."""

from __future__ import annotations

import os
import struct

from ckpt.kernel import uapi_files
from ckpt.kernel.libc import syscall
from ckpt.records.base import Record
from ckpt.records.file_kinds import SignalFd
from ckpt.records.files import FileRecord
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files.base import FileView

SUPPORT = Support("pipes", "signalfd", "mask")


class SignalFds:
    """anon_inode:[signalfd]"""

    kind = "signalfd"

    def recognises(self, view: FileView) -> bool:
        return view.link == "anon_inode:[signalfd]"

    def collect(self, view: FileView, context: CollectContext) -> Record:
        return SignalFd(int(view.info["sigmask"][0], 16))

    def restore(self, file: FileRecord, context: RestoreContext) -> int:
        mask = struct.pack("<Q", file.payload.sigmask)
        return syscall("signalfd4", uapi_files.SYS_signalfd4, -1, mask, len(mask), os.O_CLOEXEC)


KIND = SignalFds()
