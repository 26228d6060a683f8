"""eventfd(2): the count and whether it is a semaphore.

Kernels before 6.7 do not say whether an eventfd is a semaphore; there it is restored as a plain one.
"""

from __future__ import annotations

import os

from ckpt.kernel import uapi_files
from ckpt.kernel.libc import syscall
from ckpt.records.base import Record
from ckpt.records.file_kinds import EventFd
from ckpt.records.files import FileRecord
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files.base import FileView

SUPPORT = Support(
    "pipes",
    "eventfd",
    "count, semaphore",
    lost="that the kernel counts into it for a cgroup of version 1 (cgroup.event_control)",
)


class EventFds:
    """anon_inode:[eventfd]"""

    kind = "eventfd"

    def recognises(self, view: FileView) -> bool:
        return view.link == "anon_inode:[eventfd]"

    def collect(self, view: FileView, context: CollectContext) -> Record:
        semaphore = view.info.get("eventfd-semaphore", ["0"])[0]
        return EventFd(int(view.info["eventfd-count"][0], 16), semaphore == "1")

    def restore(self, file: FileRecord, context: RestoreContext) -> int:
        payload: EventFd = file.payload
        flags = os.O_CLOEXEC | (uapi_files.EFD_SEMAPHORE if payload.semaphore else 0)
        fd = syscall("eventfd2", uapi_files.SYS_eventfd2, 0, flags)
        if payload.count:
            os.write(fd, payload.count.to_bytes(8, "little"))
        return fd


KIND = EventFds()
