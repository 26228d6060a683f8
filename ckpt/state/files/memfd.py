"""Descriptions of memfds.

The memory is a shared memory object (ckpt.state.shm). One description is that which memfd_create gives: the kernel
counts it as no writer, so that the memfd can be executed while it is open. The others open it again through
/proc/self/fd.
"""

from __future__ import annotations

import fcntl
import os

from ckpt.errors import KernelError, RestoreError
from ckpt.kernel import uapi_files
from ckpt.records.base import Record
from ckpt.records.file_kinds import MemfdFile, NoPayload
from ckpt.records.files import FileRecord
from ckpt.state import shm, shm_build
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files import paths
from ckpt.state.files.base import FileView


class Memfds:
    """/memfd:NAME (deleted); by way of /proc/PID/map_files also /dev/zero (deleted) and /SYSV… (deleted)"""

    kind = "memfd"

    def recognises(self, view: FileView) -> bool:
        return shm.is_object(view)

    def collect(self, view: FileView, context: CollectContext) -> Record:
        try:
            return MemfdFile(shm.note_object(context, view))
        except KernelError as error:
            reason = f"is shared memory, which cannot be looked at: {error.message}"
            context.refuse(view.pid, view.subject, reason, "close it before the dump")
            return NoPayload()

    def restore(self, file: FileRecord, context: RestoreContext) -> int:
        payload: MemfdFile = file.payload
        made: dict[str, int] = context.shared.get("shm_fds", {})
        if payload.shm not in made and not shm_build.open_segment(context, payload.shm):
            raise RestoreError(f"the shared memory object {payload.shm} is not in the image")
        given: set[str] = context.shared.setdefault("memfds_given", set())
        if payload.shm in given or file.flags & (os.O_ACCMODE | uapi_files.O_PATH) != os.O_RDWR:
            return paths.reopen(made[payload.shm], file.flags)
        given.add(payload.shm)
        fd = fcntl.fcntl(made[payload.shm], fcntl.F_DUPFD_CLOEXEC, 0)
        fcntl.fcntl(fd, fcntl.F_SETFL, file.flags & ~paths.ONCE)
        return fd


KIND = Memfds()
