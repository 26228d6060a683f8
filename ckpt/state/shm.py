"""Shared memory objects: memfds and what else several tasks map."""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from ckpt.errors import KernelError
from ckpt.kernel import uapi_files
from ckpt.kernel.descriptors import open_magic
from ckpt.records.mm import ShmRecord
from ckpt.records.support import Support
from ckpt.state.context import CollectContext
from ckpt.state.files.base import FileView

SUPPORT = Support("memory", "shared memory", "anonymous, memfds with name and seals, once for all that map it")


def note_memfd(context: CollectContext, view: FileView) -> str:
    """Note the memfd behind `view` in `context.shared["shm"]` (key -> ShmRecord), once; gives its key."""
    st = view.stat
    key = f"shm:{st.st_dev}:{st.st_ino}"
    objects: dict[str, ShmRecord] = context.shared.setdefault("shm", {})
    if key not in objects:
        name = view.link.removeprefix("/memfd:").removesuffix(" (deleted)")
        mode = stat.S_IMODE(st.st_mode)
        objects[key] = ShmRecord(
            key, st.st_size, "memfd", name, _seals(view), mode=mode, file_id=view.file_id, uid=st.st_uid, gid=st.st_gid
        )
    return key


def _seals(view: FileView) -> int:
    fd = open_magic(view.proc_path, os.O_RDONLY)
    try:
        return fcntl.fcntl(fd, uapi_files.F_GET_SEALS)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return 0
        raise KernelError(f"F_GET_SEALS of {view.link}: {error.strerror}", errno=error.errno or 0) from None
    finally:
        os.close(fd)
